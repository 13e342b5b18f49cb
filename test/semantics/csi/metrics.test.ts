/**
 * /metrics after real work, and where secrets may show: each promised metric with its labels, units in the names,
 * nothing that grows with the names of files and pods; and a secret in every field that the protocol marks as one,
 * which must not be found anywhere.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'
import { shapeOf } from '../../../proto/csi/secret-fields.ts'
import type { NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, processesOf, run, shell } from '../endtoend/node.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let volume: CsiVolume

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  await node.startAgent([...node.httpArguments('127.0.0.1:0'), '--log-level', 'debug', '--csi-health'])
  kubelet = new Kubelet(node.kubelet)
  volume = {
    handle: 'pv-metrics',
    attributes: { server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=10` }
  }
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

async function fetched (page: string): Promise<string> {
  // Scrapes within a quarter of a second are one.
  await pause(300)
  const { address, port } = JSON.parse(
    node.agentLog.split('\n').findLast((line) => line.includes('"op":"listen"')) ?? '{}'
  ) as { address: string, port: number }
  return await (await fetch(`http://${address}:${port}${page}`, { headers: node.httpHeaders })).text()
}

interface Series { readonly name: string, readonly labels: Readonly<Record<string, string>>, readonly value: number }
async function scrape (): Promise<readonly Series[]> {
  return [...(await fetched('/metrics')).matchAll(/^(volbridge_\w+)(?:\{(.*)\})? (\S+)$/gm)].map(
    ([, name = '', list = '', value]) => ({
      name,
      labels: Object.fromEntries(
        [...list.matchAll(/(?:^|,)(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', text = '']) => [key, text])
      ),
      value: Number(value)
    })
  )
}

/** Files of one name, and a pod of one name, do everything that is counted. */
async function work (name: string): Promise<void> {
  const target = await kubelet.publish(node.csiSocket, driver, volume, `pod-${name}`, 'pv')
  await shell(
    `cd ${target} && mkdir -p ${name}/inner && head -c 300000 /dev/zero > ${name}/file && cat ${name}/file ${name}/file > /dev/null && stat ${name}/file && stat ${name}/file && ls -l ${name} && ! rmdir ${name} && rm -r ${name}`
  )
  await kubelet.stats(node.csiSocket, volume.handle, target)
  await missingVolume(name)
  await kubelet.unpublish(node.csiSocket, volume.handle, target)
}
async function missingVolume (name: string): Promise<void> {
  await kubelet.stats(node.csiSocket, `none-${name}`, `${node.kubelet}/pods/${name}`).catch((error: unknown) => {
    if (!(error instanceof CallError)) throw error
  })
}

check('every promised metric is there after real work, with its labels and units, and none grows with names of files and pods', async (t) => {
  await kubelet.stage(node.csiSocket, driver, volume)
  const target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
  await work('first')
  // A server that comes back: calls are sent again on a new connection. Meanwhile bytes wait.
  const writing = shell(
    `exec 3> ${target}/held && head -c 700000 /dev/zero >&3 && sleep 0.8 && head -c 700000 /dev/zero >&3 && sleep 1 && exec 3>&-`
  )
  await pause(300)
  server.stop()
  let mostDirty = 0
  for (let n = 0; n < 6; n++) {
    await pause(200)
    mostDirty = Math.max(
      mostDirty,
      (await scrape()).find(({ name, labels }) => name === 'volbridge_session_level' && labels['name'] === 'dirtyBytes')
        ?.value ?? 0
    )
  }
  await server.restart()
  await writing
  t.true(mostDirty > 0, 'bytes that wait are counted')

  const all = await scrape()
  const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
    all.filter((one) => one.name === name && Object.entries(labels).every(([key, text]) => one.labels[key] === text))
      .reduce((total, { value }) => total + value, 0)
  const label = createHash('sha256').update(volume.handle).digest('hex').slice(0, 16)
  const promised: readonly (readonly [string, Readonly<Record<string, string>>, number])[] = [
    ['volbridge_session_requests_total', { operation: 'WRITE' }, 3],
    ['volbridge_session_requests_total', { operation: 'LOOKUP' }, 2],
    ['volbridge_session_read_bytes_total', {}, 300_000], ['volbridge_session_written_bytes_total', {}, 1_700_000],
    ['volbridge_session_request_duration_seconds_count', { operation: 'WRITE' }, 3],
    ['volbridge_session_request_duration_seconds_bucket', { operation: 'WRITE', le: '+Inf' }, 3],
    ['volbridge_session_errors_total', { errno: 'ENOTEMPTY' }, 1],
    ['volbridge_session_failed_requests_total', { operation: 'RMDIR' }, 1],
    ['volbridge_session_cached_requests_total', {}, 1],
    ['volbridge_session_events_total', { name: 'retransmissions' }, 1],
    ['volbridge_session_events_total', { name: 'connects' }, 2],
    ['volbridge_session_events_total', { name: 'disconnects' }, 1],
    ['volbridge_session_level', { name: 'residentBytes' }, 1_000_000],
    ['volbridge_calls_total', { method: 'NodeStageVolume', code: 'OK', door: 'csi' }, 1],
    ['volbridge_calls_total', { method: 'NodePublishVolume', code: 'OK', door: 'csi' }, 2],
    ['volbridge_calls_total', { method: 'NodeGetVolumeStats', code: 'NOT_FOUND', door: 'csi' }, 1],
    ['volbridge_call_duration_seconds_count', { method: 'NodePublishVolume' }, 2],
    ['volbridge_mounts', { door: 'csi', client: 'fuse', state: 'published' }, 1],
    ['volbridge_volume_targets', { volume: label }, 1],
    ['volbridge_volume_health', { volume: label }, 1],
    ['volbridge_volume_info', { volume: label, door: 'csi', client: 'fuse' }, 1]
  ]
  for (const [name, labels, atLeast] of promised) {
    t.true(sum(name, labels) >= atLeast, `${name}${JSON.stringify(labels)} is ${sum(name, labels)}`)
  }

  const types = [...(await fetched('/metrics')).matchAll(/^# TYPE (volbridge_\w+) (\w+)$/gm)].filter(([, name = '']) =>
    !name.startsWith('volbridge_agent_')
  )
  for (const [, name = '', type] of types) {
    t.is(name.endsWith('_total'), type === 'counter', name)
    if (type === 'histogram') t.regex(name, /_seconds$/)
    t.notRegex(name, /(?:_ms|_milliseconds|_kb|_kib|_mb)(?:_|$)/, name)
  }
  const known = new Set([
    'method', 'code', 'door', 'le', 'session', 'operation', 'errno', 'name', 'volume', 'state', 'client',
    'version'
  ])
  const own = all.filter(({ name }) => !name.startsWith('volbridge_agent_'))
  t.deepEqual([...new Set(own.flatMap(({ labels }) => Object.keys(labels)))].filter((label) => !known.has(label)), [])

  for (let n = 0; n < 3; n++) await work(`second-${n}`)
  const names = (list: readonly Series[]): readonly string[] =>
    list.filter(({ name }) => !name.startsWith('volbridge_agent_')).map(({ name, labels }) =>
      `${name}${JSON.stringify(labels)}`
    ).sort()
  // The kernel may have used an operation that it had not needed before.
  const added = names(await scrape()).filter((name) => !names(all).includes(name) && !/"operation":/.test(name))
  t.deepEqual(added, [])
  t.false((await fetched('/metrics')).includes('second-1'))
  await kubelet.unpublish(node.csiSocket, volume.handle, target)
  await kubelet.unstage(node.csiSocket, driver, volume.handle)
  t.deepEqual(
    (await scrape()).filter(({ labels }) => labels['volume'] !== undefined || labels['session'] !== undefined),
    [],
    'a volume that is gone leaves nothing'
  )
})

check('a secret in any field that the protocol marks as one, or in attributes, is in no log line, metric, status, journal, environment or command line', async (t) => {
  const secret = 'corr3ct-horse'
  const tokens = JSON.stringify({ audience: { token: secret, expirationTimestamp: '2030-01-01T00:00:00Z' } })
  for (const message of [
    'NodeStageVolumeRequest', 'NodePublishVolumeRequest', 'NodeExpandVolumeRequest', 'NodeGetStorageHealthRequest'
  ]) t.true(shapeOf(message)?.isSecret('secrets'), message)
  const capability: VolumeCapability = {
    accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
  }
  const target = kubelet.csiTarget('pod-secret', 'pv')
  mkdirSync(path.dirname(target), { recursive: true })
  const staging = path.join(node.kubelet, 'plugins/secret')
  mkdirSync(staging, { recursive: true })
  const good = {
    volumeId: 'pv-secret', stagingTargetPath: staging, volumeCapability: capability,
    secrets: { password: secret, 'csi.storage.k8s.io/serviceAccount.tokens': tokens },
    volumeContext: { ...volume.attributes, 'csi.storage.k8s.io/serviceAccount.tokens': tokens }
  } satisfies Partial<NodeStageVolumeRequest>
  const publish = { ...good, targetPath: target } satisfies Partial<NodePublishVolumeRequest>
  // What works, and what fails in every way in which the request is shown.
  await kubelet.call(node.csiSocket, 'NodeStageVolume', good)
  await kubelet.call(node.csiSocket, 'NodePublishVolume', publish)
  await kubelet.call(node.csiSocket, 'NodePublishVolume', publish)
  const failures = [
    kubelet.call(node.csiSocket, 'NodeStageVolume', { ...good, volumeCapability: null }),
    kubelet.call(node.csiSocket, 'NodeStageVolume', {
      ...good, volumeId: 'pv-other', volumeContext: { ...good.volumeContext, share: '/none' },
      stagingTargetPath: path.join(node.kubelet, 'plugins')
    }),
    kubelet.call(node.csiSocket, 'NodePublishVolume', { ...publish, targetPath: `${node.kubelet}/../x` }),
    kubelet.call(node.csiSocket, 'NodePublishVolume', {
      ...publish, volumeCapability: { ...capability, mount: { fsType: '', mountFlags: [], volumeMountGroup: 'staff' } }
    }),
    kubelet.call(
      node.csiSocket,
      'NodeExpandVolume',
      {
        volumeId: 'pv-secret', volumePath: `${node.kubelet}/none`,
        capacityRange: { requiredBytes: '1', limitBytes: '0' }, secrets: { password: secret }
      } as never
    )
  ]
  for (const failure of failures) {
    const error = await t.throwsAsync(failure, { instanceOf: CallError })
    t.false(error?.message.includes(secret), error?.message)
  }
  await kubelet.call(node.csiSocket, 'NodeGetStorageHealth', { secrets: { password: secret } } as never)

  t.true(
    node.agentLog.split('\n').filter((line) => line.includes('"arguments"')).length >= 5,
    'failed calls are logged with what they asked for'
  )
  const places: Record<string, string> = {
    log: node.agentLog, metrics: await fetched('/metrics'), page: await fetched('/'),
    json: await fetched('/status.json')
  }
  places['status'] = (await run(path.resolve('dist/volbridge'), ['status', '--json', ...node.places])).stdout
  for (const folder of [path.join(node.state, 'journal'), path.join(node.state, 'log')]) {
    for (const name of readdirSync(folder)) places[name] = readFileSync(path.join(folder, name), 'utf8')
  }
  const pids = [
    node.agentPid ?? 0,
    ...(await processesOf(node.runtime)).map((line) => Number(line.split(' ')[0])).filter((pid) => pid !== process.pid)
  ]
  for (const pid of pids) {
    for (const file of ['cmdline', 'environ']) {
      try { places[`${pid} ${file}`] = readFileSync(`/proc/${pid}/${file}`, 'utf8') } catch { /* it has just ended */ }
    }
  }
  t.true(Object.keys(places).length > 10)
  t.regex(`${places['page']}${places['json']}`, /<html[^]*"volumes"/, 'the page and the report were told')
  t.deepEqual(Object.entries(places).filter(([, text]) => text.includes(secret)).map(([place]) => place), [])
  await kubelet.call(node.csiSocket, 'NodeUnpublishVolume', { volumeId: 'pv-secret', targetPath: target })
  await kubelet.call(node.csiSocket, 'NodeUnstageVolume', { volumeId: 'pv-secret', stagingTargetPath: staging })
})
