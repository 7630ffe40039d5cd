{{- /*
For charts that have this one as a dependency, with the shape sidecar. The scope is that of the dependency: .Subcharts.tagalong.
*/ -}}

{{- /* An item of `initContainers`: a container that starts before the application and stops after it. */ -}}
{{- define "tagalong.sidecar.container" -}}
{{- if ne .Values.shape "sidecar" }}
{{- fail "tagalong.sidecar.container: set tagalong.shape to sidecar" }}
{{- end }}
{{- include "tagalong.container" . }}
{{- end }}

{{- /* Items of `volumes`. */ -}}
{{- define "tagalong.sidecar.volumes" -}}
{{- include "tagalong.volumes" . }}
{{- end }}

{{- /* Labels of the pod: the PodMonitor selects by the first one. */ -}}
{{- define "tagalong.sidecar.labels" -}}
tagalong/sidecar: {{ include "tagalong.fullname" . }}
{{- if .Values.serviceAccount.clientId }}
azure.workload.identity/use: "true"
{{- end }}
{{- end }}

{{- /* Annotations of the pod: it starts anew when the configuration changes. */ -}}
{{- define "tagalong.sidecar.annotations" -}}
checksum/tagalong-config: {{ .Values.config | sha256sum }}
{{- end }}
