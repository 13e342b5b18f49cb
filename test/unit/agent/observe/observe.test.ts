import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { toStageKey, toVolumeId } from '../../../../agent/base/brands.ts'
import { VolumeError, volumeErrorCodes } from '../../../../agent/base/errors.ts'
import { createLogger, openLog } from '../../../../agent/observe/log.ts'
import { createMetrics } from '../../../../agent/observe/metrics.ts'
import { levelOf, observeCalls } from '../../../../agent/observe/observed.ts'
import { redact } from '../../../../agent/observe/redact.ts'
import type { DataLoss, VolumeView } from '../../../../agent/volumes/operations.ts'
import { viewOf } from '../csi/scripted-volumes.ts'

const secretText = 'hunter2-do-not-show'
const silent = { started: () => undefined, ended: () => undefined }

function recorded (): { lines: Record<string, unknown>[], log: ReturnType<typeof createLogger> } {
  const lines: Record<string, unknown>[] = []
  return {
    lines, log: createLogger('debug', { write: (line) => { lines.push(JSON.parse(line) as Record<string, unknown>) } })
  }
}

test('a caller that sends megabytes gets a short line', (t) => {
  const { lines, log } = recorded()
  const long = 'x'.repeat(1_000_000)
  const volumeContext = {
    [long]: '1', ...Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`key-${index}`, '1']))
  }
  const request = {
    volumeId: long, targetPath: long, stagingTargetPath: long, volumeContext,
    volumeCapability: { mount: { fsType: long } }
  }
  observeCalls(log, silent)({ method: 'NodePublishVolume', door: 'csi', request })({
    code: 'INVALID_ARGUMENT', error: new VolumeError('INVALID', 'too long')
  })
  t.is(lines.length, 1)
  t.true(JSON.stringify(lines[0]).length < 12_000, `${JSON.stringify(lines[0]).length}`)
  t.regex(JSON.stringify(lines[0]), /… 4937 more/)
})

test('fields that the protocol marks secret are hidden, attributes show their names only', (t) => {
  const request = {
    volumeId: 'v1', secrets: { password: secretText }, volumeContext: { server: secretText },
    volumeCapability: { mount: { mountFlags: [secretText], fsType: 'x' }, accessMode: { mode: 'SINGLE_NODE_WRITER' } }
  }
  const shown = JSON.stringify(redact(request, 'NodePublishVolumeRequest'))
  t.false(shown.includes(secretText))
  t.true(shown.includes('"server"') && shown.includes('"v1"') && shown.includes('SINGLE_NODE_WRITER'))
})

test('a failed call makes one line with the five fields and no secret', (t) => {
  const { lines, log } = recorded()
  const observe = observeCalls(log, silent)
  observe({
    method: 'NodePublishVolume', door: 'csi', request: { volumeId: 'v1', targetPath: '/t', secrets: { k: secretText } }
  })({
    code: 'UNAVAILABLE', error: new VolumeError('UNAVAILABLE', 'nas is away', { field: 'server' })
  })
  t.is(lines.length, 1)
  t.like(lines[0], {
    level: 'warn', volume: 'v1', op: 'NodePublishVolume', outcome: 'UNAVAILABLE', door: 'csi', target: '/t',
    field: 'server', msg: 'nas is away'
  })
  t.is(typeof lines[0]?.['ms'], 'number')
  t.is(typeof lines[0]?.['request'], 'string')
  t.false(JSON.stringify(lines).includes(secretText))
})

test('every code of the taxonomy has a level, and only our own fault is an error', (t) => {
  t.deepEqual(volumeErrorCodes.filter((code) => levelOf[code] === 'error'), ['INTERNAL'])
})

test('calls that come every minute are quiet, and our own fault brings its stack', (t) => {
  const { lines, log } = recorded()
  const observe = observeCalls(log, silent)
  observe({ method: 'NodeGetVolumeStats', door: 'csi', request: {} })({ code: 'OK', error: undefined })
  observe({ method: 'NodeStageVolume', door: 'csi', request: {} })({ code: 'INTERNAL', error: new TypeError('oops') })
  t.deepEqual(lines.map(({ level }) => level), ['debug', 'error'])
  t.regex(String(lines[1]?.['stack']), /TypeError: oops/)
})

test('a log file that has grown too large starts anew and keeps one predecessor', (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-log-'))
  const file = path.join(folder, 'agent.log')
  writeFileSync(file, 'x'.repeat(9 * 1024 * 1024))
  const log = openLog({ level: 'info', file })
  log('info', { op: 'a' })
  log('info', { op: 'b' })
  t.is(statSync(`${file}.1`).size, 9 * 1024 * 1024)
  t.is(readFileSync(file, 'utf8').trim().split('\n').length, 2)
  rmSync(folder, { recursive: true })
})

test('a log file that somebody removed, or whose folder takes no new file, goes on: no later line is lost', (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-log-'))
  const file = path.join(folder, 'agent.log')
  writeFileSync(file, 'x'.repeat(9 * 1024 * 1024))
  const log = openLog({ level: 'info', file })
  rmSync(file)
  log('info', { op: 'a' })
  log('info', { op: 'b' })
  t.deepEqual(readFileSync(file, 'utf8').trim().split('\n').map((line) => (JSON.parse(line) as { op: string }).op), [
    'a', 'b'
  ])

  // A folder in the predecessor's place: the file cannot be moved there, and yet it has an end.
  mkdirSync(`${file}.1/inner`, { recursive: true })
  const long = 'y'.repeat(1024 * 1024)
  for (let n = 0; n < 40; n++) log('info', { op: 'c' }, long)
  log('info', { op: 'last' })
  t.true(statSync(file).size < 18 * 1024 * 1024)
  t.regex(readFileSync(file, 'utf8'), /"op":"last"\}\n$/)
  rmSync(folder, { recursive: true })
})

test('a log file that can\'t be opened is refused by option and value', (t) => {
  t.throws(() => openLog({ level: 'info', file: '/none/x.log' }), {
    instanceOf: VolumeError, message: /--log-file: "\/none\/x\.log"/
  })
})

/** sha256 of "v1", as `sha256sum` says it. */
const v1 = '3bfc269594ef6492'

function metricsOf (
  views: VolumeView[],
  registered: boolean | undefined = undefined,
  losses: readonly DataLoss[] = []
): ReturnType<typeof createMetrics> {
  return createMetrics({
    version: '1.2.3', list: async () => await Promise.resolve(views), losses: () => losses,
    registered: () => registered
  })
}

test('metrics tell calls by method and code, and volumes by health, without anything of a volume that is gone', async (t) => {
  const views = [viewOf()]
  const metrics = metricsOf(views)
  metrics.started()
  metrics.ended('NodePublishVolume', 'OK', 'csi', 0.03)
  const text = await metrics.text()
  for (const line of [
    'volbridge_calls_total{method="NodePublishVolume",code="OK",door="csi"} 1',
    'volbridge_call_duration_seconds_bucket{le="0.05",method="NodePublishVolume"} 1',
    'volbridge_calls_running 0',
    'volbridge_build_info{version="1.2.3"} 1',
    `volbridge_volume_health{volume="${v1}",state="healthy"} 1`,
    `volbridge_volume_health{volume="${v1}",state="dead"} 0`,
    `volbridge_volume_info{volume="${v1}",door="hand",client="fuse",session="ab"} 1`,
    'volbridge_session_events_total{session="ab",name="reads"} 3',
    'volbridge_mounts{door="hand",client="fuse",state="mounted"} 1'
  ]) t.true(text.includes(`${line}\n`), line)
  t.false(text.includes('volbridge_kubelet_registered'))
  views.length = 0
  t.false((await metrics.text()).includes(v1))
})

test('bytes that unmounts could not save are a metric, also when nothing is mounted any more', async (t) => {
  const loss = { key: toStageKey('ab'), source: 'nas:/x', bytes: 4096, at: '2026-01-01T00:00:00.000Z' }
  const text = await metricsOf([], undefined, [loss, { ...loss, key: toStageKey('cd'), bytes: 4 }]).text()
  t.true(text.includes('volbridge_lost_bytes{session="ab"} 4096\n'))
  t.true(text.includes('volbridge_lost_bytes{session="cd"} 4\n'))
  t.false(text.includes('nas'))
})

test('a session that volumes share is counted once, with units, by operation, and with how long it took', async (t) => {
  const counters = {
    fuseReadBytes: 10, fuseWrittenBytes: 20, 'fuseRequests:READ': 4, 'fuseErrors:READ': 1, 'fuseErrnos:EIO': 1,
    'fuseCached:READ': 2, retransmissions: 2
  }
  const latency = {
    READ: {
      count: 4, sumSeconds: 6.5,
      buckets: [{ upToSeconds: 0.0001, count: 0 }, { upToSeconds: 0.05, count: 3 }, { upToSeconds: 30, count: 4 }]
    }
  }
  const key = toStageKey('0123456789abcdef'.repeat(4))
  const views = ['a', 'b'].map((name) => viewOf({ volume: toVolumeId(name), key, counters, latency }))
  const metrics = metricsOf(views)
  const [text, other] = await Promise.all([metrics.text(), metrics.text()])
  t.is(
    text.replaceAll(/^volbridge_agent_.*$/gm, ''),
    other.replaceAll(/^volbridge_agent_.*$/gm, ''),
    'two scrapes at once do not disturb each other'
  )
  const lines = text.split('\n').filter((line) => line.startsWith('volbridge_session_'))
  t.deepEqual(lines, [
    'volbridge_session_read_bytes_total{session="0123456789abcdef"} 10',
    'volbridge_session_written_bytes_total{session="0123456789abcdef"} 20',
    'volbridge_session_requests_total{session="0123456789abcdef",operation="READ"} 4',
    'volbridge_session_failed_requests_total{session="0123456789abcdef",operation="READ"} 1',
    'volbridge_session_errors_total{session="0123456789abcdef",errno="EIO"} 1',
    'volbridge_session_cached_requests_total{session="0123456789abcdef",operation="READ"} 2',
    'volbridge_session_heals_total{session="0123456789abcdef"} 0',
    'volbridge_session_events_total{session="0123456789abcdef",name="retransmissions"} 2',
    'volbridge_session_level{session="0123456789abcdef",name="dirtyBytes"} 0',
    'volbridge_session_request_duration_seconds_bucket{le="0.05",session="0123456789abcdef",operation="READ"} 3',
    'volbridge_session_request_duration_seconds_bucket{le="30",session="0123456789abcdef",operation="READ"} 4',
    'volbridge_session_request_duration_seconds_bucket{le="+Inf",session="0123456789abcdef",operation="READ"} 4',
    'volbridge_session_request_duration_seconds_sum{session="0123456789abcdef",operation="READ"} 6.5',
    'volbridge_session_request_duration_seconds_count{session="0123456789abcdef",operation="READ"} 4'
  ])
  t.true(text.includes('# TYPE volbridge_session_request_duration_seconds histogram\n'))
  t.notRegex(text, /\n\n\n/)
})

test('counters of a session show its own count on every scrape, not a sum of scrapes', async (t) => {
  const metrics = metricsOf([viewOf()])
  await metrics.text()
  t.true((await metrics.text()).includes('volbridge_session_events_total{session="ab",name="reads"} 3\n'))
})

test('metrics name no server, share, path, pod or volume: everybody on the node may read them', async (t) => {
  const secretive = viewOf({
    volume: toVolumeId('nas-secret/volume'), source: 'nas-secret:/secret', staging: '/secret/staging',
    targets: [{
      path: '/secret', resolved: '/secret', readOnly: false, owner: 'secret/pod', problem: 'secret',
      unprotected: 'secret'
    }],
    health: { state: 'degraded', reason: 'secret' }, notes: ['secret']
  })
  const loss = { key: toStageKey('ab'), source: 'nas-secret:/secret', bytes: 1, at: '2026-01-01T00:00:00.000Z' }
  const text = await metricsOf([secretive], true, [loss]).text()
  t.regex(text, /^volbridge_volume_health\{volume="[0-9a-f]{16}",state="degraded"\} 1$/m)
  t.notRegex(text, /secret/)
})

test('label values can\'t break the text apart', async (t) => {
  const text = await metricsOf([viewOf({ counters: { 'a"\n\\b': 1 } })], true).text()
  t.true(text.includes('name="a\\"\\n\\\\b"'))
  t.true(text.includes('volbridge_kubelet_registered 1\n'))
})
