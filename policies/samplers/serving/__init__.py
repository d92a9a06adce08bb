"""vLLM servers: one over HTTP, many as a fleet, their weights in directories, and the processes of this host.

`worker_extension` is what a server imports; the others are the client's. Nothing here is loaded unless a spec says
`sampler: vllm_server`.
"""
