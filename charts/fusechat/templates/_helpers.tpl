{{- define "fusechat.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "fusechat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "fusechat.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "fusechat.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "fusechat.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* Full name of an image: (dict "root" $ "image" .Values.image). A digest wins over the tag. */}}
{{- define "fusechat.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{- define "fusechat.releaseLabels" -}}
app.kubernetes.io/name: {{ include "fusechat.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fusechat.selectorLabels" -}}
{{ include "fusechat.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "fusechat.labels" -}}
{{ include "fusechat.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fusechat
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, labels and annotations of an object: (dict "root" $ "name" ... "labels" dict "annotations" dict "namespace" ...) */}}
{{- define "fusechat.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "fusechat.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Options that the operator and its check share. */}}
{{- define "fusechat.scope" -}}
- --lease-name={{ include "fusechat.fullname" . }}
- --lease-namespace={{ .Release.Namespace }}
- --log-progress={{ .Values.logProgress }}
{{- with .Values.namespaces }}
- --namespaces={{ join "," . }}
{{- end }}
{{- end }}

{{- define "fusechat.pullSecretNames" -}}
{{- $names := list }}{{ range . }}{{ $names = append $names .name }}{{ end }}{{ join "," $names }}
{{- end }}

{{/* What the operator may do in the namespaces that it serves: the list of fuse_operator/permissions.py. */}}
{{- define "fusechat.rules" -}}
- apiGroups: [fusechat.dev]
  resources: [fusejobs]
  verbs: [list, watch, delete] # TTL deletes
- apiGroups: [fusechat.dev]
  resources: [fusejobs/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete] # patch suspends and resumes
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, create, delete] # names of a gang's pods
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch, create, delete] # the spec, for the pod that plans
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete] # what is left of an earlier run
{{- if .Values.logProgress }}
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch] # why a Job makes no pods; what happened to a FuseJob
{{- end }}
