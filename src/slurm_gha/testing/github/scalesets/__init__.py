"""Runner scale sets: the Actions service with its message queue, beside REST."""
