{{/*
Before the injector is there, a job makes its certificate, or renews it; once the webhook is there, another writes the CA into it. A CronJob does both
while the release lives. The first has to create a Secret, a right that RBAC cannot tie to a name, so its account is there only while it runs, and all
others are tied to the two objects.
*/}}
{{- define "holdfast.createArgs" -}}
- inject
- certificates
- create
- --namespace={{ .Release.Namespace }}
- --secret={{ include "holdfast.certificateSecret" . }}
- --service={{ include "holdfast.injector" . }}
- --duration={{ .Values.certificates.duration }}
- --renew-before={{ .Values.certificates.renewBefore }}
{{- end }}

{{- define "holdfast.installArgs" -}}
- inject
- certificates
- install
- --namespace={{ .Release.Namespace }}
- --secret={{ include "holdfast.certificateSecret" . }}
- --webhook-configuration={{ include "holdfast.clusterName" . }}
{{- end }}

{{- define "holdfast.certificatesContainer" -}}
image: {{ include "holdfast.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  {{- toYaml .Values.certificates.hook.resources | nindent 2 }}
securityContext:
  {{- include "holdfast.securityContext" . | nindent 2 }}
{{- end }}

{{- define "holdfast.certificatesPod" -}}
automountServiceAccountToken: true
enableServiceLinks: false
restartPolicy: Never
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "holdfast.podSecurityContext" . | nindent 2 }}
{{- with .Values.injector.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.injector.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
