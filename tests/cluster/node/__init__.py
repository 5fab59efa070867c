"""A Kubernetes node on this machine, in namespaces of its own, with Postgres and an S3 server beside it.

The node is one process namespace: when its first process is gone, the kernel has ended every other, and with
them go the network, the mounts and the shared memory. What stays is one folder and the node's control groups.

`node` starts and stops it, `init` is the first process inside, `parts` says how each program is called,
`components` builds the programs, `facts` is what tests are told of it, `services` stops and starts programs.
"""
