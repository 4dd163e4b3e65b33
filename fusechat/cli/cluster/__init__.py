"""The commands that talk to a cluster, through the current context of the kubeconfig as kubectl does.

The only place in fusechat that imports the Kubernetes client, and only inside functions: no other command pays for it.
"""
