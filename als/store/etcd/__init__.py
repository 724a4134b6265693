"""The store that several servers share: etcd. Imported only where it is wanted, since its libraries are optional."""

import os

# gRPC reads this when it is imported; else it writes each connection that fails to stderr, besides the exception.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
