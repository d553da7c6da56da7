"""Images: `sources` reads image sets, `augment` changes batches of them, `batches` splits and serves them."""
