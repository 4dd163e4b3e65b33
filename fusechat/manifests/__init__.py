"""Planned stages to Kubernetes objects as plain JSON: one pure renderer, used by the operator and by
`fusechat plan --manifests`."""
