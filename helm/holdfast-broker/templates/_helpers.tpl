{{- define "holdfast-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* 42 characters: a StatefulSet's name gets a revision behind it, and that has to be a label. */}}
{{- define "holdfast-broker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 42 | trimSuffix "-" }}
{{- else if contains (include "holdfast-broker.name" .) .Release.Name }}
{{- .Release.Name | trunc 42 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "holdfast-broker.name" .) | trunc 42 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "holdfast-broker.selector" -}}
app.kubernetes.io/name: {{ include "holdfast-broker.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: broker
{{- end }}

{{- define "holdfast-broker.labels" -}}
{{ include "holdfast-broker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "holdfast-broker.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "holdfast-broker.advertised" -}}
{{- default (printf "%s.%s.svc:%v" (include "holdfast-broker.fullname" .) .Release.Namespace .Values.service.port) .Values.advertised }}
{{- end }}

{{/* A Kubernetes quantity as a number of bytes. */}}
{{- define "holdfast-broker.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- mul (regexFind "^[0-9]+" . | int64) (index $units (regexFind "[A-Za-z]*$" .) | int64) }}
{{- end }}

{{/* The configuration: the user's section, and what the chart knows better. */}}
{{- define "holdfast-broker.config" -}}
{{- $bytes := include "holdfast-broker.bytes" .Values.persistence.size | int64 }}
{{- $max := div (mul $bytes (int64 .Values.persistence.usePercent)) 100 }}
{{- $broker := mergeOverwrite (dict "data" (dict "bytes_max" $max)) (deepCopy .Values.config) }}
{{- $_ := mergeOverwrite $broker (dict "listen" "0.0.0.0:9092" "admin" "0.0.0.0:9190" "advertised" (include "holdfast-broker.advertised" .)) }}
{{- $_ := set $broker.data "directory" "/var/lib/holdfast/data" }}
{{- if .Values.tls.secretName }}
{{- $tls := dict "certificate" "/etc/holdfast/tls/tls.crt" "key" "/etc/holdfast/tls/tls.key" "client_auth" .Values.tls.clientAuth }}
{{- if ne .Values.tls.clientAuth "none" }}{{ $_ := set $tls "client_ca" "/etc/holdfast/tls/ca.crt" }}{{ end }}
{{- $_ := mergeOverwrite $broker (dict "tls" $tls) }}
{{- end }}
{{- if .Values.sasl.mechanisms }}
{{- $_ := mergeOverwrite $broker (dict "sasl" (dict "mechanisms" .Values.sasl.mechanisms)) }}
{{- $users := list }}
{{- range .Values.sasl.users }}
{{- $users = append $users (dict "name" . "password" (dict "file" (printf "/etc/holdfast/users/%s" .))) }}
{{- end }}
{{- if $users }}{{ $_ := set $broker "users" $users }}{{ end }}
{{- end }}
{{- toYaml (dict "broker" $broker "log" .Values.log) }}
{{- end }}

{{/* Those of config.listeners that others can reach, as JSON: their ports, and whether they are open to everybody. */}}
{{- define "holdfast-broker.listeners" -}}
{{- $listeners := list }}
{{- range .Values.config.listeners }}
{{- $port := default "" .listen | regexFind "[0-9]+$" }}
{{- if and $port (not (regexMatch `^(127\.|localhost:|\[::1\])` .listen)) }}
{{- $open := not (or (dig "sasl" "mechanisms" "" .) (ne (dig "tls" "client_auth" "none" .) "none")) }}
{{- $listeners = append $listeners (dict "name" (printf "kafka-%s" $port) "port" (int $port) "open" $open) }}
{{- end }}
{{- end }}
{{- uniq $listeners | toJson }}
{{- end }}

{{- define "holdfast-broker.scheme" -}}
{{- if .Values.sasl.mechanisms -}}
SASL_{{ if .Values.tls.secretName }}SSL{{ else }}PLAINTEXT{{ end }}
{{- else -}}
{{ if .Values.tls.secretName }}SSL{{ else }}PLAINTEXT{{ end }}
{{- end }}
{{- end }}

{{/* What the broker and the check of its configuration have in common. */}}
{{- define "holdfast-broker.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  # Not file by file at each start: a volume may hold thousands of segments.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}
{{- define "holdfast-broker.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}
{{- define "holdfast-broker.files" -}}
- name: files
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ .configMap }}
      {{- with .root.Values.tls.secretName }}
      - secret:
          name: {{ . | quote }}
          items:
            - {key: tls.crt, path: tls/tls.crt}
            - {key: tls.key, path: tls/tls.key}
            {{- if ne $.root.Values.tls.clientAuth "none" }}
            - {key: ca.crt, path: tls/ca.crt}
            {{- end }}
      {{- end }}
      {{- if .root.Values.sasl.users }}
      - secret:
          name: {{ .root.Values.sasl.usersSecretName | quote }}
          items:
            {{- range .root.Values.sasl.users }}
            - {key: {{ quote . }}, path: {{ printf "users/%s" . | quote }}}
            {{- end }}
      {{- end }}
{{- end }}
{{- define "holdfast-broker.scheduling" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
