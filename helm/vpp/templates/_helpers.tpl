{{- define "vpp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "vpp.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "vpp.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "vpp.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "vpp.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vpp.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "vpp.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "vpp.selectorLabels" . }}
{{- end }}

{{- define "vpp.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "vpp.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "vpp.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{/* Addresses come from Secrets only: they hold passwords. */}}
{{- define "vpp.serverEnv" -}}
- name: VPP_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}}
- name: VPP_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.key }}}}
{{- end }}

{{- define "vpp.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurityContext.runAsUser }}
runAsGroup: {{ .Values.podSecurityContext.runAsGroup }}
fsGroup: {{ .Values.podSecurityContext.fsGroup }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "vpp.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* How a role without a portal says that it lives. */}}
{{- define "vpp.liveness" -}}
ports:
  - {name: metrics, containerPort: {{ .Values.metrics.port }}}
{{ include "vpp.livenessProbes" . }}
{{- end }}

{{- define "vpp.livenessProbes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 30
  timeoutSeconds: 3
{{- end }}

{{/*
What a pod of any role has in common: .root, .role, .values (the role's), .container (its text).
Roles of Dask run what they are sent: they get no address and no secret.
*/}}
{{- define "vpp.pod" -}}
{{- $trusted := not (hasPrefix "dask-" .role) }}
metadata:
  annotations:
    checksum/config: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "vpp.labels" . | nindent 4 }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "vpp.serviceAccountName" .root }}
  automountServiceAccountToken: false
  # A Service named vpp would put VPP_PORT and the like among our settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .graceS }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "vpp.podSecurityContext" .root | nindent 4 }}
  containers:
    - name: {{ .role }}
      image: {{ include "vpp.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [{{ ternary "vpp" "dask" $trusted }}]
      securityContext:
        {{- include "vpp.containerSecurityContext" .root | nindent 8 }}
      {{- if $trusted }}
      envFrom:
        - configMapRef: {name: {{ include "vpp.fullname" .root }}}
      env:
        {{- include "vpp.serverEnv" .root | nindent 8 }}
      {{- else }}
      env:
        - {name: HOME, value: /tmp}
        - {name: XDG_CACHE_HOME, value: /tmp/cache}
        - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
        - {name: DASK_TEMPORARY_DIRECTORY, value: /var/lib/vpp}
      {{- end }}
      {{- .container | nindent 6 }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: var, mountPath: /var/lib/vpp}
        {{- if and $trusted .root.Values.vendors.existingSecret }}
        - {name: vendors, mountPath: /etc/vpp/secrets, readOnly: true}
        {{- end }}
        {{- if and (eq .role "gateway") .root.Values.gateway.certificate.existingSecret }}
        - {name: openadr2, mountPath: /etc/vpp/openadr2, readOnly: true}
        {{- end }}
        {{- if and (eq .role "openadr2-vtn") .root.Values.openadr2Vtn.certificate.existingSecret }}
        - {name: openadr2-vtn, mountPath: /etc/vpp/openadr2-vtn, readOnly: true}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: var, emptyDir: {}}
    {{- if and $trusted .root.Values.vendors.existingSecret }}
    - {name: vendors, secret: {secretName: {{ .root.Values.vendors.existingSecret }}, defaultMode: 288}}
    {{- end }}
    {{- if and (eq .role "gateway") .root.Values.gateway.certificate.existingSecret }}
    - {name: openadr2, secret: {secretName: {{ .root.Values.gateway.certificate.existingSecret }}, defaultMode: 288}}
    {{- end }}
    {{- if and (eq .role "openadr2-vtn") .root.Values.openadr2Vtn.certificate.existingSecret }}
    - {name: openadr2-vtn, secret: {secretName: {{ .root.Values.openadr2Vtn.certificate.existingSecret }}, defaultMode: 288}}
    {{- end }}
  {{- with .root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
