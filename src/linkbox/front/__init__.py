"""What both front ends, threaded and aio, share: construction, checks, sockets. Nothing in here waits."""
