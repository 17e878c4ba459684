{{- define "holdfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 33 | trimSuffix "-" }}
{{- end }}

{{/* 33 characters: the longest name made of it is a CronJob's, which may have 52. */}}
{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 33 | trimSuffix "-" }}
{{- else if contains (include "holdfast.name" .) .Release.Name }}
{{- .Release.Name | trunc 33 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "holdfast.name" .) | trunc 33 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "holdfast.injector" -}}{{ include "holdfast.fullname" . }}-injector{{- end }}
{{- define "holdfast.certificates" -}}{{ include "holdfast.fullname" . }}-certificates{{- end }}
{{- define "holdfast.node" -}}{{ include "holdfast.fullname" . }}-node{{- end }}

{{/* Cluster-wide objects have the namespace in their name, so that two releases do not meet. */}}
{{- define "holdfast.clusterName" -}}{{ include "holdfast.fullname" . }}-{{ .Release.Namespace }}{{- end }}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ include "holdfast.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Without versions: pods are not made anew when only the chart changes. */}}
{{- define "holdfast.podLabels" -}}
{{ include "holdfast.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
# Whatever the namespace says.
holdfast.io/inject: "false"
{{- end }}

{{- define "holdfast.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "holdfast.kubernetesVersion" -}}
{{ .Capabilities.KubeVersion.Major }}.{{ regexFind "^[0-9]+" .Capabilities.KubeVersion.Minor }}
{{- end }}

{{/* The Secret with the webhook's certificate. */}}
{{- define "holdfast.certificateSecret" -}}
{{- if eq .Values.certificates.source "secret" -}}
{{ required "certificates.secret.name: name the Secret that holds the webhook's certificate" .Values.certificates.secret.name }}
{{- else -}}
{{ include "holdfast.injector" . }}-tls
{{- end }}
{{- end }}

{{/* The agents' file, as it is in the values. */}}
{{- define "holdfast.agentConfig" -}}
{{- if not (dig "agent" "upstream" "bootstrap" "" .Values.agent.config) }}
{{- fail "agent.config.agent.upstream.bootstrap: say where the brokers are, such as --set 'agent.config.agent.upstream.bootstrap[0]=kafka.kafka.svc:9092'" }}
{{- end }}
{{- toYaml .Values.agent.config }}
{{- end }}

{{/* Namespaces that are never touched, as a list in JSON. */}}
{{- define "holdfast.excludedNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.injector.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/*
Which pods are changed, said once for the webhook and the policy. "namespace": those of namespaces that opted in, but for those that say "false".
"pod": those that say "true" in namespaces that said nothing.
*/}}
{{- define "holdfast.selectNamespace" -}}
namespaceSelector:
  matchLabels:
    holdfast.io/inject: enabled
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ include "holdfast.excludedNamespaces" . }}
objectSelector:
  matchExpressions:
    - key: holdfast.io/inject
      operator: NotIn
      values: ["false"]
{{- end }}
{{- define "holdfast.selectPod" -}}
namespaceSelector:
  matchExpressions:
    - key: holdfast.io/inject
      operator: NotIn
      values: [enabled, disabled]
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ include "holdfast.excludedNamespaces" . }}
objectSelector:
  matchLabels:
    holdfast.io/inject: "true"
{{- end }}

{{- define "holdfast.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "holdfast.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A node's agent: the sidecars' file, what is added for node agents, and what makes it one. */}}
{{- define "holdfast.nodeAgentConfig" -}}
{{- $orphans := dict "directory" "/var/lib/holdfast/pods" "after_ms" .Values.nodeAgents.orphansAfter }}
{{- $drain := sub (int .Values.nodeAgents.terminationGracePeriodSeconds) 5 | max 0 | printf "%ds" }}
{{- $spool := dict "bytes_max" .Values.nodeAgents.spoolSize }}
{{- $agent := dict "agent" (dict "orphans" $orphans "spool" $spool "drain_backlog_ms" $drain) }}
{{- mergeOverwrite (include "holdfast.agentConfig" . | fromYaml) $agent (deepCopy .Values.nodeAgents.config) | toYaml }}
{{- end }}

{{/* Each stream's series. A job of its own, or `up` would be there twice for one target. */}}
{{- define "holdfast.detailEndpoint" -}}
- port: holdfast-admin
  path: /metrics/detail
  interval: {{ .detail.interval }}
  {{- with .detail.filter }}
  params:
    filter: [{{ . | quote }}]
  {{- end }}
  relabelings:
    - action: replace
      targetLabel: job
      replacement: holdfast-agent-detail
    - action: replace
      sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: node
{{- end }}
