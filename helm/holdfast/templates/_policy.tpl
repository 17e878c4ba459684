{{/*
What the injector does (inject/), said in CEL for the API server. The pods of both modes are equal, which tests compare; what cannot be said in CEL is whether the values of
config.holdfast.io/ annotations are good.
*/}}

{{/* A size as configuration files have it (256MiB, 20GB, 4096), as a number. */}}
{{- define "holdfast.sizeOf" -}}
{{- $units := dict "" 1 "B" 1 "kB" 1000 "MB" 1000000 "GB" 1000000000 "TB" 1000000000000 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "TiB" 1099511627776 }}
{{- $text := toString . }}
{{- if kindIs "float64" . }}{{ $text = int64 . | toString }}{{ end }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- if not (and (hasKey $units $unit) (regexMatch "^[0-9]+ ?[A-Za-z]*$" $text)) }}
{{- fail (printf "agent.config: %s is no size that mode: policy can read; write it like 256MiB" $text) }}
{{- end }}
{{- mul (regexFind "^[0-9]+" $text | int64) (index $units $unit | int64) }}
{{- end }}

{{/* A duration such as 3s, in milliseconds. */}}
{{- define "holdfast.millisecondsOf" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- mul (regexFind "^[0-9]+" . | int64) (index $units (regexFind "[a-z]+$" .) | int64) }}
{{- end }}

{{/* Text as a literal of CEL: JSON's escapes are CEL's. */}}
{{- define "holdfast.cel" -}}
{{- toJson . }}
{{- end }}

{{/* A number as the injector prints it: with the largest unit that leaves it whole. */}}
{{- define "holdfast.printBytes" -}}
{{- range $unit := list (list "TiB" 1099511627776) (list "GiB" 1073741824) (list "MiB" 1048576) (list "KiB" 1024) (list "TB" 1000000000000) (list "GB" 1000000000) (list "MB" 1000000) (list "kB" 1000) -}}
{{ $ }} % {{ index $unit 1 }} == 0 ? string({{ $ }} / {{ index $unit 1 }}) + "{{ index $unit 0 }}" :
{{ end -}}
string({{ $ }})
{{- end }}
{{/* A quantity in MiB, rounded up. */}}
{{- define "holdfast.printMebibytes" -}}
string(int(({{ . }}.asApproximateFloat() + 1048575.0) / 1048576.0)) + "Mi"
{{- end }}
{{/* A quantity in thousandths, rounded up. */}}
{{- define "holdfast.printMilli" -}}
string(int({{ . }}.asApproximateFloat() * 1000.0 + 0.999)) + "m"
{{- end }}
{{- define "holdfast.printMilliseconds" -}}
{{ $ }} == 0 ? "0" :
{{ range $unit := list (list "d" 86400000) (list "h" 3600000) (list "m" 60000) (list "s" 1000) -}}
{{ $ }} % {{ index $unit 1 }} == 0 ? string({{ $ }} / {{ index $unit 1 }}) + "{{ index $unit 0 }}" :
{{ end -}}
string({{ $ }}) + "ms"
{{- end }}

{{/* What both policies look at. Static pods cannot be changed; injected ones are done. */}}
{{- define "holdfast.policyConditions" -}}
- name: not-static
  expression: '!("kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({}))'
- name: not-injected
  expression: >-
    !("inject.holdfast.io/status" in object.metadata.?annotations.orValue({}) &&
    (object.spec.?initContainers.orValue([]).exists(c, c.name == "holdfast") ||
    object.spec.containers.exists(c, c.name == "holdfast")))
{{- end }}

{{- define "holdfast.policyConstraints" -}}
matchPolicy: Equivalent
resourceRules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
{{- end }}

{{- define "holdfast.policyVariables" -}}
{{- $sidecar := .Values.sidecar -}}
- name: annotations
  expression: object.metadata.?annotations.orValue({})
- name: initContainers
  expression: object.spec.?initContainers.orValue([])
- name: volumes
  expression: object.spec.?volumes.orValue([])
- name: durability
  expression: variables.annotations[?"inject.holdfast.io/durability"].orValue({{ include "holdfast.cel" $sidecar.durability }})
- name: spoolSize
  expression: variables.annotations[?"inject.holdfast.io/spool-size"].orValue({{ include "holdfast.cel" $sidecar.spoolSize }})
- name: diskLimit
  expression: >-
    variables.annotations[?"inject.holdfast.io/limits.ephemeral-storage"]
    .orValue({{ dig "limits" "ephemeral-storage" "" $sidecar.resources | toString | include "holdfast.cel" }})
- name: secret
  expression: variables.annotations[?"inject.holdfast.io/secret"].orValue("")
- name: annotatedVariables
  expression: >-
    variables.annotations[?"inject.holdfast.io/bootstrap-env"].orValue("").split(",")
    .map(n, n.trim()).filter(n, n != "")
- name: bootstrapVariables
  expression: ({{ toJson $sidecar.bootstrapEnv }} + variables.annotatedVariables).distinct()
- name: configKeys
  expression: variables.annotations.filter(k, k.startsWith("config.holdfast.io/")).sort()
- name: resourceKeys
  expression: >-
    ["requests", "limits"].map(kind, ["cpu", "memory", "ephemeral-storage"].map(r, kind + "." + r)).flatten()
- name: knownKeys
  expression: >-
    ["durability", "spool-size", "bootstrap-env", "secret", "status", "agent-config"] + variables.resourceKeys
{{- end }}

{{/* Why a pod is refused, in the injector's words and order, but that it does not guess what a misspelt annotation meant. */}}
{{- define "holdfast.policyReasons" -}}
{{- $sidecar := .Values.sidecar -}}
- name: reasons
  expression: |
    [
      !(object.metadata.?labels.orValue({})[?"holdfast.io/inject"].orValue("true") in ["true", "false"]) ?
        ['the label holdfast.io/inject must be "true" or "false"'] : [],
      (variables.initContainers + object.spec.containers).exists(c, c.name == "holdfast") ?
        ["it has a container named holdfast that was not injected; rename it"] : [],
      object.spec.?os.name.orValue("") == "windows" ||
      object.spec.?nodeSelector.orValue({})[?"kubernetes.io/os"].orValue("") == "windows" ?
        ["it runs on Windows, and the agent runs on Linux"] : [],
      object.spec.?hostNetwork.orValue(false) ?
        ["it has hostNetwork, where the agent's ports would be the node's; let it use the node's agent instead"] : [],
      (variables.initContainers + object.spec.containers).map(c, c.?ports.orValue([]).map(p,
        p.containerPort == {{ $sidecar.kafkaPort }} || p.containerPort == {{ $sidecar.adminPort }} ?
        "its container " + c.name + " has port " + string(p.containerPort) + ", which the agent takes: change one of them, the agent's by inject.sidecar."
        + (p.containerPort == {{ $sidecar.kafkaPort }} ? "kafka_port" : "admin_port") : "")).flatten(),
      variables.annotations.filter(k, k.startsWith("inject.holdfast.io/") && !(k.substring(19) in variables.knownKeys))
        .sort().map(k, "unknown annotation \"" + k + "\""),
      !(variables.durability in ["pod", "volume", "node"]) ?
        ["annotation inject.holdfast.io/durability is \"" + variables.durability + "\", and must be pod, volume or node"] : [],
      variables.resourceKeys.sort().map(k, "inject.holdfast.io/" + k)
        .filter(k, k in variables.annotations && !isQuantity(variables.annotations[k]))
        .map(k, "annotation " + k + " is \"" + variables.annotations[k] + "\", and must be a quantity such as 100m or 64Mi"),
      "inject.holdfast.io/secret" in variables.annotations &&
      !variables.secret.matches("^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$") ?
        ["annotation inject.holdfast.io/secret is \"" + variables.secret + "\", and must be the name of a Secret"] : [],
      !isQuantity(variables.spoolSize) || quantity(variables.spoolSize).isLessThan(quantity("16Mi")) ?
        ["annotation inject.holdfast.io/spool-size is \"" + variables.spoolSize + "\", and must be a quantity of at least 16Mi, such as 2Gi"] : [],
      variables.annotatedVariables.filter(n, !n.matches("^[-._a-zA-Z][-._a-zA-Z0-9]*$"))
        .map(n, "annotation inject.holdfast.io/bootstrap-env has \"" + n + "\", which is no name of a variable"),
      ["holdfast-config", "holdfast-no-token", "holdfast-secret"].filter(n, variables.volumes.exists(v, v.name == n))
        .map(n, "it has a volume named " + n + "; rename it"),
      {{- if not .Values.nodeAgents.enabled }}
      variables.durability == "node" ?
        ["durability node needs an agent on each node, which delivers what the pod leaves, and there are none here: take inject.holdfast.io/durability: volume, or have the cluster's administrator set nodeAgents.enabled"] : [],
      {{- end }}
      variables.durability != "volume" && variables.volumes.exists(v, v.name == "holdfast-spool") ?
        ["it has a volume named holdfast-spool; annotate it inject.holdfast.io/durability: volume to have the spool there, or rename it"] : [],
      variables.durability == "volume" && !variables.volumes.exists(v,
          v.name == "holdfast-spool" && has(v.persistentVolumeClaim)) ?
        ["durability volume needs a volume named holdfast-spool that outlives the pod: add a claim of this name to the volumeClaimTemplates of the StatefulSet, or a persistentVolumeClaim to the pod's volumes"] : [],
      variables.durability == "volume" && !object.spec.?securityContext.fsGroup.hasValue() ?
        ["durability volume needs securityContext.fsGroup in the pod's spec, such as 65532, so that the agent may write to the volume"] : [],
      variables.durability == "pod" && isQuantity(variables.diskLimit) && isQuantity(variables.spoolSize) &&
      quantity(variables.diskLimit).isLessThan(quantity(variables.spoolSize)) ?
        ["the agent's limits.ephemeral-storage is " + variables.diskLimit + ", less than its spool in an emptyDir of " + variables.spoolSize
        + ": raise inject.holdfast.io/limits.ephemeral-storage, or lower inject.holdfast.io/spool-size"] : [],
      variables.configKeys.filter(k, k.substring(19) in ["listen", "admin", "spool.directory"])
        .map(k, "annotation " + k + ": the injector sets this itself")
    ].flatten().filter(reason, reason != "")
{{- end }}

{{/* Requests or limits: the annotation of the pod, else the value, else `disk` where other containers limit their disk. */}}
{{- define "holdfast.policyResources" -}}
{{- $defaults := dict }}
{{- range $name, $quantity := index .resources .kind }}{{ $_ := set $defaults $name (toString $quantity) }}{{ end -}}
["cpu", "memory", "ephemeral-storage"].filter(r,
  "inject.holdfast.io/{{ .kind }}." + r in variables.annotations || r in {{ toJson $defaults }} ||
  r == "ephemeral-storage" && variables.limitsDisk)
.transformMapEntry(i, r, {r: variables.annotations[?"inject.holdfast.io/{{ .kind }}." + r].orValue({{ toJson $defaults }}[?r].orValue({{ .disk }}))})
{{- end }}
