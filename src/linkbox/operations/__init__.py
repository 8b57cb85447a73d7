"""The operations of endpoints, each written once; `linkbox.threaded` and `linkbox.aio` run them."""
