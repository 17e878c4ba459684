{{/* The two files of the injector: its own configuration, and the one that sidecars get. */}}
{{- define "holdfast.injectorFiles" -}}
holdfast.yaml: |
  inject:
    listen: 0.0.0.0:8443
    admin: 0.0.0.0:9090
    tls:
      certificate: /etc/holdfast/tls/tls.crt
      key: /etc/holdfast/tls/tls.key
    kubernetes_version: {{ include "holdfast.kubernetesVersion" . | quote }}
    sidecar:
      image: {{ include "holdfast.image" . | quote }}
      image_pull_policy: {{ .Values.image.pullPolicy }}
      agent_config_file: /etc/holdfast/agent.yaml
      durability: {{ .Values.sidecar.durability }}
      spool_size: {{ .Values.sidecar.spoolSize | quote }}
      {{- if .Values.nodeAgents.enabled }}
      node_directory: {{ .Values.nodeAgents.directory | quote }}
      {{- end }}
      kafka_port: {{ .Values.sidecar.kafkaPort }}
      admin_port: {{ .Values.sidecar.adminPort }}
      bootstrap_env: {{ toJson .Values.sidecar.bootstrapEnv }}
      resources:
        {{- range $kind := list "requests" "limits" }}
        {{- range $name, $quantity := index $.Values.sidecar.resources $kind }}
        {{ $kind }}.{{ $name }}: {{ $quantity | quote }}
        {{- end }}
        {{- end }}
      drain_reserve_ms: {{ .Values.sidecar.drainReserve }}
  log:
    level: {{ .Values.injector.logLevel }}
    format: json
agent.yaml: |
  {{- include "holdfast.agentConfig" . | nindent 2 }}
{{- end }}

{{/* What the two webhooks have in common. */}}
{{- define "holdfast.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "holdfast.injector" . }}
    namespace: {{ .Release.Namespace | quote }}
    path: /mutate
    port: 443
  {{- if eq .Values.certificates.source "secret" }}
  caBundle: {{ .Values.certificates.secret.caBundle | b64enc }}
  {{- end }}
failurePolicy: Fail
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: {{ .Values.injector.timeoutSeconds }}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
{{- end }}
