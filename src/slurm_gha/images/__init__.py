"""Images of runners: built, kept by digest, published in the forms that nodes use."""
