"""What endpoints do, each operation once; `linkbox.threaded` and `linkbox.aio` run them."""
