{{- define "safeserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release that this one is a canary of, or itself. */}}
{{- define "safeserve.release" -}}
{{- default .Release.Name .Values.canaryOf -}}
{{- end -}}

{{- define "safeserve.suffix" -}}
{{- ternary "-canary" "" (ne .Values.canaryOf "") -}}
{{- end -}}

{{/* Of what a canary shares with what it is a canary of. Room is left for the longest suffix, "-operations". */}}
{{- define "safeserve.fullname" -}}
{{- $name := include "safeserve.name" . -}}
{{- $release := include "safeserve.release" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name $release -}}
{{- $release | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "safeserve.deploymentName" -}}
{{ include "safeserve.fullname" . }}{{ include "safeserve.suffix" . }}
{{- end -}}

{{- define "safeserve.configName" -}}
{{ include "safeserve.fullname" . }}-config{{ include "safeserve.suffix" . }}
{{- end -}}

{{- define "safeserve.claimName" -}}
{{- default (printf "%s-models" (include "safeserve.fullname" .)) .Values.models.pvc.claimName -}}
{{- end -}}

{{- define "safeserve.selectorLabels" -}}
app.kubernetes.io/name: {{ include "safeserve.name" . }}
app.kubernetes.io/instance: {{ include "safeserve.release" . }}
{{- end -}}

{{/* Without a canary's pods, or of these alone. */}}
{{- define "safeserve.trackLabels" -}}
{{ include "safeserve.selectorLabels" . }}
track: {{ ternary "canary" "stable" (ne .Values.canaryOf "") }}
{{- end -}}

{{- define "safeserve.labels" -}}
{{ include "safeserve.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "safeserve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "safeserve.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: with serviceAccount.create: false it has to name an account that is there" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "safeserve.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings as TOML. What JSON writes for a number, a boolean or a text is TOML too; Helm's own
     toToml would write whole numbers with a fraction. */}}
{{- define "safeserve.config" -}}
[operations]
# Probes and scrapes: never behind the clients' keys, TLS or limit of connections, and the metrics page
# not where clients are.
bind = "0.0.0.0:8081"
{{- range $section, $settings := .Values.config }}

[{{ $section }}]
{{- range $key, $value := $settings }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "safeserve.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key, $value := .Values.podSecurityContext }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }}: {{ int64 $value }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "safeserve.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "safeserve.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Percent
      value: 100
      periodSeconds: 30
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}

{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "safeserve.validate" -}}
{{- $values := .Values -}}
{{- if and $values.hpa.enabled $values.keda.enabled -}}
{{- fail "hpa.enabled and keda.enabled: a Deployment has one owner of its replicas; enable one of them" -}}
{{- end -}}
{{- if eq $values.canaryOf .Release.Name -}}
{{- fail "canaryOf: names this release; a canary is a release of its own" -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) -}}
{{- fail "ingress.host: an Ingress needs the name that clients ask for" -}}
{{- end -}}
{{- with $values.autoscaling -}}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas: %d is more than autoscaling.maxReplicas, %d" (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- $server := $values.config.server -}}
{{- $drain := divf (addf $server.drain_delay_ms $server.drain_timeout_ms) 1000 -}}
{{- $end := addf $values.preStopSleepSeconds $drain 5 -}}
{{- if le (float64 $values.terminationGracePeriodSeconds) $end -}}
{{- fail (printf "terminationGracePeriodSeconds: %d does not fit: expected more than %v s, which are preStopSleepSeconds + config.server.drain_delay_ms + config.server.drain_timeout_ms + 5 s" (int64 $values.terminationGracePeriodSeconds) $end) -}}
{{- end -}}
{{- if and (eq $values.models.source "imageVolume") (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "models.source: imageVolume needs Kubernetes 1.33, this is %s; use initContainer or pvc" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $images := dict "image.tag" (printf ":%s" $values.image.tag) "models.imageVolume.reference" $values.models.imageVolume.reference "models.initContainer.image" $values.models.initContainer.image -}}
{{- range $key, $image := $images -}}
{{- if hasSuffix ":latest" $image -}}
{{- fail (printf "%s: latest changes by itself; name a version" $key) -}}
{{- end -}}
{{- end -}}
{{/* As the server counts it where nothing is set: 4/5 for weights, 1/8 and at most 256 MiB for bodies. */}}
{{- $memory := mul (regexFind "^[0-9]+" $values.resources.memory) (ternary 1073741824 1048576 (hasSuffix "Gi" $values.resources.memory)) -}}
{{- $weights := int64 (dig "models" "max_weight_bytes" 0 $values.config) | default (div (mul $memory 4) 5) -}}
{{- $bodies := int64 (dig "limits" "max_inflight_body_bytes" 0 $values.config) | default (min (div $memory 8) 268435456) -}}
{{- if gt (mul (add $weights $bodies) 40) (mul $memory 37) -}}
{{- fail (printf "resources.memory: %s does not hold config.models.max_weight_bytes and config.limits.max_inflight_body_bytes, %d bytes together: they may take 37/40 of it, the rest is the process's" $values.resources.memory (add $weights $bodies)) -}}
{{- end -}}
{{- end -}}
