/** The examples that operators copy: they parse, name the right driver, and the product accepts what they say. */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { runCommandLine } from '../../../agent/cli/arguments.ts'
import type { AgentOptions, Commands, FlexInstallOptions, StatusOptions } from '../../../agent/cli/arguments.ts'
import { allAgentCapabilities } from '../../../agent/host/agent-power.ts'
import { statusUrl } from '../../../agent/observe/http/token-review.ts'
import { parseAllowRule, ruleFor } from '../../../agent/volumes/policy/allow-list.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'

const yaml = createRequire(import.meta.url)('js-yaml') as { safeLoadAll: (text: string) => unknown[] }
const root = path.resolve(import.meta.dirname, '../../..')
const folder = path.join(root, 'deploy/examples')
const driver = 'csi.volbridge.io'

interface KubernetesObject {
  apiVersion: string
  kind: string
  metadata: { name: string }
  spec: Record<string, unknown>
}
const objectsOf = (text: string): KubernetesObject[] => yaml.safeLoadAll(text) as KubernetesObject[]
const files = readdirSync(folder)
const objects = [
  ...files.filter((name) => name.endsWith('.yaml')).map((name) => path.join(folder, name)),
  path.join(root, 'deploy/csi/csidriver.yaml')
].flatMap((file) => objectsOf(readFileSync(file, 'utf8')))
const ofKind = (kind: string): KubernetesObject[] => objects.filter((object) => object.kind === kind)

interface InstallerPod {
  readonly hostPID: boolean
  readonly tolerations: readonly object[]
  readonly containers: ReadonlyArray<
    { image: string, command: string[], volumeMounts: ReadonlyArray<{ name: string, mountPath: string }> }
  >
  readonly volumes: ReadonlyArray<{ name: string, hostPath: { path: string } }>
}

interface Probe { readonly exec: { readonly command: readonly string[] }, readonly timeoutSeconds: number }

interface AgentPod {
  readonly containers: ReadonlyArray<{
    readonly image: string
    readonly args: readonly string[]
    readonly livenessProbe: Probe
    readonly readinessProbe: Probe
    readonly volumeMounts: ReadonlyArray<{ readonly name: string, readonly mountPath: string }>
  }>
  readonly volumes: ReadonlyArray<{ readonly name: string, readonly hostPath: { readonly path: string } }>
}

/** What kubelet hands over: every value a string. */
type Attributes = Record<string, string>

test('every example is a whole Kubernetes object', (t) => {
  for (const { apiVersion, kind, metadata, spec } of objects) {
    t.true([apiVersion, kind, metadata.name].every((text) => typeof text === 'string' && text !== ''))
    t.is(typeof spec, 'object')
  }
  t.deepEqual(objects.map(({ kind }) => kind).sort(), [
    'CSIDriver', ...Array<string>(4).fill('PersistentVolume'), ...Array<string>(4).fill('PersistentVolumeClaim'),
    ...Array<string>(7).fill('Pod')
  ])
})

test('the FlexVolume example names the driver by its folder, and its options are accepted', (t) => {
  const volumes = ofKind('Pod').flatMap(({ spec }) =>
    spec['volumes'] as Array<{ flexVolume?: { driver: string, options: Attributes } }>
  )
  const flex = volumes.map(({ flexVolume }) => flexVolume).find((volume) => volume !== undefined)
  t.is(flex?.driver, 'volbridge.io/volbridge')
  t.notThrows(() => parseVolumeSpec(flex?.options ?? {}))
  for (const value of Object.values(flex?.options ?? {})) t.is(typeof value, 'string')
})

/** A volume, its claim and a pod that uses it. */
function claimed (t: ExecutionContext, source: 'csi' | 'flexVolume'): KubernetesObject | undefined {
  const volume = ofKind('PersistentVolume').find(({ spec }) => spec[source] !== undefined)
  const claim = ofKind('PersistentVolumeClaim').find(({ spec }) => spec['volumeName'] === volume?.metadata.name)
  t.truthy(claim)
  const volumes = ofKind('Pod').flatMap(({ spec }) =>
    spec['volumes'] as Array<{ persistentVolumeClaim?: { claimName: string } }>
  )
  t.true(volumes.some(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName === claim?.metadata.name))
  return volume
}

test('the CSI example belongs together: driver, volume, claim and pod, and its attributes are accepted', (t) => {
  const [csiDriver] = ofKind('CSIDriver')
  const volume = claimed(t, 'csi')
  const csi = volume?.spec['csi'] as { driver: string, volumeHandle: string, volumeAttributes: Attributes }
  t.is(csiDriver?.metadata.name, driver)
  t.is(csi.driver, driver)
  t.notThrows(() => parseVolumeSpec(csi.volumeAttributes, { mountFlags: volume?.spec['mountOptions'] as string[] }))
})

test('the Flex volume belongs to its claim and pod, its options are accepted, and it has no mountOptions, which kubelet refuses', (t) => {
  const volume = claimed(t, 'flexVolume')
  const flex = volume?.spec['flexVolume'] as { driver: string, options: Attributes }
  t.is(flex.driver, 'volbridge.io/volbridge')
  t.notThrows(() => parseVolumeSpec(flex.options))
  t.is(volume?.spec['mountOptions'], undefined)
})

test('the Flex installer runs a command that exists, on every Linux node, with the node\'s root where the command looks for it', async (t) => {
  const [installer] = objectsOf(readFileSync(path.join(root, 'deploy/flex/installer.yaml'), 'utf8'))
  const [kustomization] = objectsOf(
    readFileSync(path.join(root, 'deploy/flex/kustomization.yaml'), 'utf8')
  ) as unknown as Array<{ resources: string[], images: Array<{ name: string }> }>
  t.deepEqual(kustomization?.resources, ['installer.yaml'])
  t.is(installer?.kind, 'DaemonSet')
  const { spec: pod, metadata } = installer?.spec['template'] as { metadata: { labels: object }, spec: InstallerPod }
  t.deepEqual((installer?.spec['selector'] as { matchLabels: object }).matchLabels, metadata.labels)
  t.true(pod.hostPID)
  t.deepEqual(pod.tolerations, [{ operator: 'Exists' }])
  const [container] = pod.containers
  t.is(container?.image.split(':')[0], kustomization?.images[0]?.name)
  const [program, ...args] = container?.command ?? []
  t.is(program, 'volbridge')
  let asked: FlexInstallOptions | undefined
  const flexInstall = async (options: FlexInstallOptions): Promise<number> => {
    asked = options
    return await Promise.resolve(0)
  }
  t.is(
    await runCommandLine(args, '0', { flexInstall } as unknown as Commands, {
      out: () => undefined, err: (text) => { t.log(text) }
    }),
    0
  )
  t.is(asked?.watch, 30)
  const mount = container?.volumeMounts.find(({ mountPath }) => mountPath === asked?.hostRoot)
  t.is(pod.volumes.find(({ name }) => name === mount?.name)?.hostPath.path, '/')
})

test('every CSI example names the driver, and its attributes are accepted', (t) => {
  const inline = ofKind('Pod').flatMap(({ spec }) =>
    spec['volumes'] as Array<{ csi?: { driver: string, volumeAttributes: Attributes } }>
  )
  const sources = [
    ...inline.map(({ csi }) => csi),
    ...ofKind('PersistentVolume').map(({ spec }) =>
      spec['csi'] as { driver: string, volumeAttributes: Attributes } | undefined
    )
  ]
    .filter((csi) => csi !== undefined)
  t.is(sources.length, 4)
  for (const csi of sources) {
    t.is(csi.driver, driver)
    t.notThrows(() => parseVolumeSpec(csi.volumeAttributes))
  }
})

test('the agent\'s DaemonSet runs a command that exists, in the node\'s namespaces, with the node\'s folders under their own paths', async (t) => {
  const [set] = objectsOf(readFileSync(path.join(root, 'deploy/csi/agent.yaml'), 'utf8'))
  const [kustomization] = objectsOf(
    readFileSync(path.join(root, 'deploy/csi/kustomization.yaml'), 'utf8')
  ) as unknown as Array<{ resources: string[], images: Array<{ name: string, newName: string, newTag: string }> }>
  t.deepEqual(kustomization?.resources, ['csidriver.yaml', 'agent.yaml'])
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  t.like(kustomization?.images[0], { newName: 'volbridge/volbridge', newTag: version })
  const { spec: pod, metadata } = set?.spec['template'] as { metadata: { labels: object }, spec: AgentPod }
  t.deepEqual((set?.spec['selector'] as { matchLabels: object }).matchLabels, metadata.labels)
  t.like(pod, {
    hostPID: true, hostNetwork: true, priorityClassName: 'system-node-critical', automountServiceAccountToken: false,
    tolerations: [{ operator: 'Exists' }]
  })
  const [container] = pod.containers
  t.is(container?.image.split(':')[0], kustomization?.images[0]?.name)
  let asked: AgentOptions | undefined
  const agent = async (options: AgentOptions): Promise<number> => { asked = options; return await Promise.resolve(0) }
  t.is(
    await runCommandLine(container?.args ?? [], '0', { agent } as unknown as Commands, {
      out: () => undefined, err: (text) => { t.log(text) }
    }),
    0
  )
  t.like(asked, {
    hostNs: '/proc/1/ns', kubeletDir: '/var/lib/kubelet', driverName: driver,
    csiEndpoint: `unix:///var/lib/kubelet/plugins/${driver}/csi.sock`
  })
  for (const { name, mountPath } of container?.volumeMounts ?? []) {
    t.is(pod.volumes.find((volume) => volume.name === name)?.hostPath.path, mountPath)
  }
  t.true(asked?.deregisterOnExit, 'a pod that is deleted leaves no registration')
  for (const [probe, question] of [[container?.livenessProbe, 'live'], [container?.readinessProbe, 'ready']] as const) {
    const [program, ...args] = probe?.exec.command ?? []
    t.is(program, 'volbridge')
    let told: StatusOptions | undefined
    const status = async (options: StatusOptions): Promise<number> => {
      told = options
      return await Promise.resolve(0)
    }
    t.is(
      await runCommandLine(args, '0', { status } as unknown as Commands, {
        out: () => undefined, err: (text) => { t.log(text) }
      }),
      0
    )
    t.like(told, { live: question === 'live', ready: question === 'ready' })
    t.true((probe?.timeoutSeconds ?? 0) >= 10, 'a program has to be started for it')
  }
})

test('the page for tokens of the cluster adds what the agent’s option needs, and gives nobody more than asking', async (t) => {
  const at = (name: string): string => readFileSync(path.join(root, 'deploy/csi-status', name), 'utf8')
  const [overlay] = objectsOf(at('kustomization.yaml')) as unknown as Array<
    { resources: string[], patches: Array<{ patch: string }> }
  >
  t.deepEqual(overlay?.resources, ['../csi', 'rbac.yaml'])
  const patch = yaml.safeLoadAll(overlay?.patches[0]?.patch ?? '').flat() as Array<{ path: string, value: unknown }>
  const [account, binding, reader] = objectsOf(at('rbac.yaml')) as unknown as [
    { metadata: { name: string, namespace: string } },
    { roleRef: { name: string }, subjects: unknown[] },
    { rules: unknown[] }
  ]
  t.deepEqual(patch.map(({ value }) => value), [account.metadata.name, true, '--http-token-review'])
  t.like(binding, { roleRef: { name: 'system:auth-delegator' } })
  t.deepEqual(binding.subjects, [{ kind: 'ServiceAccount', ...account.metadata }])
  t.deepEqual(reader.rules, [{ nonResourceURLs: [statusUrl], verbs: ['get'] }])
  let asked: AgentOptions | undefined
  const agent = async (options: AgentOptions): Promise<number> => { asked = options; return await Promise.resolve(0) }
  await runCommandLine(['agent', String(patch.at(-1)?.value)], '0', { agent } as unknown as Commands, {
    out: () => undefined, err: (text) => { t.log(text) }
  })
  t.true(asked?.httpTokenReview)
})

test('no image that we name moves: each has a version or a digest', (t) => {
  const pages = readdirSync(path.join(root, 'deploy'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.yaml')
  )
  const texts = [...pages.map((name) => path.join(root, 'deploy', name)), path.join(root, 'README.md')].map((file) =>
    readFileSync(file, 'utf8')
  )
  const images = texts.flatMap((text) => [
    ...[...text.matchAll(/^\s*(?:- )?image: *(\S+)$/gm)].map(([, image = '']) => image),
    ...[...text.matchAll(/docker run (?:[^\n]*\\\n)*?[^\n]*?\s([a-z0-9./-]+:[\w.-]+) \\$/gm)].map(([, image = '']) =>
      image
    )
  ])
  t.true(images.length > 10)
  t.true(images.some((image) => image.startsWith('debian')), 'the recipe of README is looked at')
  for (const image of images) {
    t.regex(image, /@sha256:[0-9a-f]{64}$|:set-by-kustomization$|:\d+\.\d+\.\d+$|-\d{8}(-slim)?$/, image)
  }
  const tags = texts.flatMap((text) => [...text.matchAll(/newTag: *"?([^"\s]+)"?$/gm)].map(([, tag = '']) => tag))
  t.is(tags.length, 2)
  for (const tag of tags) t.regex(tag, /^\d+\.\d+\.\d+$/)
})

test('pods can name no shares themselves unless the second overlay is applied, and then those of its list alone', async (t) => {
  t.deepEqual(ofKind('CSIDriver')[0]?.spec['volumeLifecycleModes'], ['Persistent'])
  const text = readFileSync(path.join(root, 'deploy/csi-ephemeral/kustomization.yaml'), 'utf8')
  const [kustomization] = objectsOf(text) as unknown as { resources: string[], patches: { patch: string }[] }[]
  t.deepEqual(kustomization?.resources, ['../csi'])
  const patches = (kustomization?.patches ?? []).flatMap(({ patch }) =>
    yaml.safeLoadAll(patch) as { path: string, value: unknown }[][]
  ).flat()
  t.deepEqual(patches.map(({ path: where }) => where), [
    '/spec/volumeLifecycleModes', '/metadata/labels', '/spec/template/spec/containers/0/args/-'
  ])
  t.deepEqual(patches[0]?.value, ['Persistent', 'Ephemeral'])
  t.deepEqual(patches[1]?.value, { 'security.openshift.io/csi-ephemeral-volume-profile': 'baseline' })
  let asked: AgentOptions | undefined
  const agent = async (options: AgentOptions): Promise<number> => { asked = options; return await Promise.resolve(0) }
  const output = { out: () => undefined, err: (line: string) => { t.log(line) } }
  t.is(await runCommandLine(['agent', String(patches[2]?.value)], '0', { agent } as unknown as Commands, output), 0)
  const rules = (asked?.ephemeralAllow ?? []).map((rule) => parseAllowRule(rule, '--ephemeral-allow'))
  const inline = ofKind('Pod')
    .flatMap(({ spec }) => spec['volumes'] as { csi?: { volumeAttributes: Attributes } }[])
    .flatMap(({ csi }) => csi ?? [])
  t.is(inline.length, 1)
  const { target } = parseVolumeSpec(inline[0]?.volumeAttributes ?? {})
  t.not(ruleFor(rules, target, 'default'), undefined, 'the example is allowed')
  t.is(ruleFor(rules, target, 'other'), undefined)
})

test('README shows the examples as they are', (t) => {
  const page = readFileSync(path.join(root, 'README.md'), 'utf8')
  const shown = [...page.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].flatMap(([, text]) => objectsOf(text ?? ''))
  t.true(shown.length > 0)
  for (const object of shown) {
    t.true(
      objects.some((example) => JSON.stringify(example) === JSON.stringify(object)),
      `${object.kind} ${object.metadata.name}`
    )
  }
})

test('the systemd unit and the words of the manifest have the capabilities that the agent keeps', (t) => {
  const expected = [...allAgentCapabilities].sort()
  const unit = readFileSync(path.join(folder, 'volbridge-agent.service'), 'utf8')
  const bounding = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? []
  t.deepEqual(bounding.map((name) => name.replace('CAP_', '')).sort(), expected)
  const manifest = readFileSync(path.join(root, 'deploy/csi/agent.yaml'), 'utf8')
  const said = /agent itself gives away[^]*?privileged: true/.exec(manifest)?.[0] ?? ''
  for (const name of expected) t.regex(said, new RegExp(`\\b${name}\\b`))
})

test('the systemd unit ends the agent alone and gives it no mount namespace of its own', (t) => {
  const unit = readFileSync(path.join(folder, 'volbridge-agent.service'), 'utf8')
  t.regex(unit, /^KillMode=process$/m)
  t.notRegex(
    unit,
    /^(Private|Protect|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|TemporaryFileSystem|BindPaths|MountFlags)/m
  )
  t.regex(
    unit,
    /^ExecStart=\/usr\/local\/bin\/volbridge agent --csi-endpoint unix:\/\/\/var\/lib\/kubelet\/plugins\/csi\.volbridge\.io\/csi\.sock/m
  )
})
