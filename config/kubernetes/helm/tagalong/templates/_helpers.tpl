{{- define "tagalong.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tagalong.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "tagalong.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tagalong.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tagalong.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.shape }}
{{- end }}

{{- define "tagalong.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tagalong.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tagalong.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tagalong.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* Whether callers come from outside of the pod. */ -}}
{{- define "tagalong.remote" -}}
{{- if and (ne .Values.shape "sidecar") (not (and (eq .Values.shape "node") (eq .Values.node.access "socket"))) }}yes{{ end }}
{{- end }}

{{- /* Whether callers must prove themselves. */ -}}
{{- define "tagalong.proven" -}}
{{- if or (include "tagalong.remote" .) (and (eq .Values.shape "sidecar") .Values.callers.sidecar) }}yes{{ end }}
{{- end }}

{{- define "tagalong.snapshot" -}}
{{- if and .Values.snapshot.enabled (or .Values.snapshot.key (eq .Values.credential "hmac")) }}yes{{ end }}
{{- end }}

{{- /* The keys of the Secret that are used. Others in it are not mounted. */ -}}
{{- define "tagalong.secretKeys" -}}
{{- $keys := list }}
{{- if eq .Values.credential "hmac" }}{{ $keys = append $keys "connection-string" }}{{ end }}
{{- if eq .Values.credential "bearer-file" }}{{ $keys = append $keys "bearer" }}{{ end }}
{{- if .Values.metrics.remote }}{{ $keys = append $keys "admin-token" }}{{ end }}
{{- if include "tagalong.proven" . }}
{{- if .Values.callers.localKeys }}{{ $keys = append $keys "local-keys" }}{{ end }}
{{- if .Values.callers.bearer }}{{ $keys = append $keys "caller-token" }}{{ end }}
{{- end }}
{{- if and (include "tagalong.snapshot" .) .Values.snapshot.key }}{{ $keys = append $keys "snapshot-key" }}{{ end }}
{{- if .Values.fleet.url }}
{{- $keys = append $keys "fleet-key" }}
{{- if .Values.fleet.password }}{{ $keys = append $keys "fleet-password" }}{{ end }}
{{- end }}
{{- join "," $keys }}
{{- end }}

{{- define "tagalong.hosts" -}}
{{- $name := include "tagalong.fullname" . }}
{{- $namespace := .Release.Namespace }}
{{- $hosts := list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s.svc.cluster.local" $name $namespace) }}
{{- if and (eq .Values.shape "node") (eq .Values.node.access "hostPort") }}{{ $hosts = append $hosts "$(HOST_IP)" }}{{ end }}
{{- join "," (concat $hosts .Values.callers.hosts) }}
{{- end }}

{{- define "tagalong.env" -}}
# A variable and no flag, because the probes need it too.
- { name: TAGALONG_CONFIG, value: "/etc/tagalong/tagalong.toml" }
{{- if and (eq .Values.shape "node") (eq .Values.node.access "hostPort") }}
- name: HOST_IP
  valueFrom: { fieldRef: { fieldPath: status.hostIP } }
{{- end }}
{{- if not (or .Values.upstream (eq .Values.credential "hmac") (contains "url" .Values.config)) }}
{{- fail "name the origin: upstream is empty, and no connection string names it" }}
{{- end }}
{{- if .Values.upstream }}
- { name: TAGALONG_UPSTREAM, value: {{ .Values.upstream | quote }} }
{{- end }}
- { name: TAGALONG_CREDENTIAL, value: {{ .Values.credential | quote }} }
{{- if eq .Values.credential "hmac" }}
- { name: TAGALONG_CONNECTION_STRING_FILE, value: "/run/secrets/tagalong/connection-string" }
{{- else if eq .Values.credential "bearer-file" }}
- { name: TAGALONG_UPSTREAM__CREDENTIAL__BEARER_FILE, value: "/run/secrets/tagalong/bearer" }
{{- end }}
{{- if include "tagalong.remote" . }}
- { name: TAGALONG_LISTEN, value: "0.0.0.0:8484" }
- { name: TAGALONG_LISTENER__ALLOW_REMOTE, value: "true" }
- { name: TAGALONG_GUARD__ALLOWED_HOSTS, value: {{ include "tagalong.hosts" . | quote }} }
{{- else if eq .Values.shape "node" }}
- { name: TAGALONG_LISTEN_UNIX, value: "{{ .Values.node.socket.directory }}/tagalong.sock" }
- { name: TAGALONG_LISTENER__UNIX_MODE, value: {{ .Values.node.socket.mode | quote }} }
{{- with .Values.node.socket.users }}
- { name: TAGALONG_LISTENER__UNIX_USERS, value: {{ join "," . | quote }} }
{{- end }}
{{- end }}
{{- if include "tagalong.proven" . }}
{{- if .Values.callers.localKeys }}
- { name: TAGALONG_LOCAL_KEYS, value: "/run/secrets/tagalong/local-keys" }
{{- end }}
{{- if .Values.callers.bearer }}
- { name: TAGALONG_LISTENER__BEARER_FILE, value: "/run/secrets/tagalong/caller-token" }
{{- end }}
{{- end }}
{{- if .Values.callers.tls.secretName }}
- { name: TAGALONG_LISTENER__TLS__CERTIFICATE_FILE, value: "/run/secrets/tagalong-tls/tls.crt" }
- { name: TAGALONG_LISTENER__TLS__KEY_FILE, value: "/run/secrets/tagalong-tls/tls.key" }
{{- end }}
{{- if include "tagalong.snapshot" . }}
- { name: TAGALONG_SNAPSHOT_FILE, value: "/var/lib/tagalong/snapshot" }
{{- if .Values.snapshot.key }}
- { name: TAGALONG_SNAPSHOT_KEY_FILE, value: "/run/secrets/tagalong/snapshot-key" }
{{- end }}
{{- end }}
{{- if .Values.fleet.url }}
- { name: TAGALONG_FLEET_URL, value: {{ .Values.fleet.url | quote }} }
- { name: TAGALONG_FLEET_KEY_FILE, value: "/run/secrets/tagalong/fleet-key" }
{{- if .Values.fleet.password }}
- { name: TAGALONG_FLEET__PASSWORD_FILE, value: "/run/secrets/tagalong/fleet-password" }
{{- end }}
{{- end }}
{{- if .Values.metrics.remote }}
- { name: TAGALONG_ADMIN_LISTEN, value: "0.0.0.0:8485" }
- { name: TAGALONG_ADMIN__ALLOW_REMOTE, value: "true" }
- { name: TAGALONG_ADMIN__TOKEN_FILE, value: "/run/secrets/tagalong/admin-token" }
{{- end }}
- { name: TAGALONG_LOGGING__LEVEL, value: {{ .Values.logging.level | quote }} }
- { name: TAGALONG_LOGGING__FORMAT, value: {{ .Values.logging.format | quote }} }
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The container of every shape, as an item of a list. */ -}}
{{- define "tagalong.container" -}}
- name: tagalong
  {{- with .Values.image }}
  image: {{ printf "%s%s" .repository (ternary (printf "@%s" .digest) (printf ":%s" (default $.Chart.AppVersion .tag)) (ne .digest "")) | quote }}
  imagePullPolicy: {{ .pullPolicy }}
  {{- end }}
  {{- if eq .Values.shape "sidecar" }}
  restartPolicy: Always
  {{- end }}
  args: ["run"]
  env:
    {{- include "tagalong.env" . | trim | nindent 4 }}
  ports:
    {{- if include "tagalong.remote" . }}
    - name: callers
      containerPort: 8484
      {{- if and (eq .Values.shape "node") (eq .Values.node.access "hostPort") }}
      hostPort: {{ .Values.node.hostPort }}
      {{- with .Values.node.hostIP }}
      hostIP: {{ . | quote }}
      {{- end }}
      {{- end }}
    {{- end }}
    - name: operator
      containerPort: 8485
  # Subcommands, because the image has no shell, and the kubelet reaches no listener on the pod's loopback. A start takes
  # milliseconds, so the start-up probe runs often.
  startupProbe:
    exec: { command: ["/tagalong", "ready"] }
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    exec: { command: ["/tagalong", "live"] }
    periodSeconds: 10
  readinessProbe:
    exec: { command: ["/tagalong", "ready"] }
    periodSeconds: 5
  {{- if and (include "tagalong.remote" .) (gt (int .Values.preStopSleepSeconds) 0) }}
  lifecycle:
    preStop:
      sleep: { seconds: {{ int .Values.preStopSleepSeconds }} }
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: ["ALL"] }
    seccompProfile: { type: RuntimeDefault }
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - { name: tagalong-config, mountPath: /etc/tagalong, readOnly: true }
    {{- if include "tagalong.secretKeys" . }}
    - { name: tagalong-secrets, mountPath: /run/secrets/tagalong, readOnly: true }
    {{- end }}
    {{- if .Values.callers.tls.secretName }}
    - { name: tagalong-tls, mountPath: /run/secrets/tagalong-tls, readOnly: true }
    {{- end }}
    {{- if include "tagalong.snapshot" . }}
    - { name: tagalong-state, mountPath: /var/lib/tagalong }
    {{- end }}
    {{- if and (eq .Values.shape "node") (eq .Values.node.access "socket") }}
    - { name: tagalong-socket, mountPath: {{ .Values.node.socket.directory | quote }} }
    {{- end }}
{{- end }}

{{- define "tagalong.volumes" -}}
- name: tagalong-config
  configMap: { name: {{ include "tagalong.fullname" . }} }
{{- with include "tagalong.secretKeys" . }}
- name: tagalong-secrets
  secret:
    secretName: {{ $.Values.secret.name }}
    defaultMode: 0440
    items:
      {{- range splitList "," . }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- end }}
{{- with .Values.callers.tls.secretName }}
- name: tagalong-tls
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- if include "tagalong.snapshot" . }}
- name: tagalong-state
  emptyDir: { sizeLimit: {{ .Values.snapshot.sizeLimit }} }
{{- end }}
{{- if and (eq .Values.shape "node") (eq .Values.node.access "socket") }}
- name: tagalong-socket
  hostPath: { path: {{ .Values.node.socket.directory | quote }}, type: Directory }
{{- end }}
{{- end }}

{{- /* The pod of a gateway or a node. */ -}}
{{- define "tagalong.pod" -}}
metadata:
  labels:
    {{- include "tagalong.selectorLabels" . | nindent 4 }}
    {{- if .Values.serviceAccount.clientId }}
    azure.workload.identity/use: "true"
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tagalong.serviceAccountName" . }}
  # The webhook of workload identity mounts a token of its own.
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    fsGroup: 65532
    seccompProfile: { type: RuntimeDefault }
  containers:
    {{- include "tagalong.container" . | nindent 4 }}
  volumes:
    {{- include "tagalong.volumes" . | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.shape "gateway" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tagalong.selectorLabels" . | nindent 10 }}
  {{- end }}
{{- end }}
