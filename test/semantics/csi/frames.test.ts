/**
 * Bytes that no client would send, on the sockets of the packed agent: HTTP/2 frames and gRPC messages changed, cut,
 * doubled, in any order, and plain noise. VOLBRIDGE_SEED repeats a run. The agent must be the same process afterwards,
 * serve others all the while, and keep nothing.
 */
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { loadServices } from '../../../proto/csi/load.ts'
import { randomOf, type Random } from '../../model/exercise.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import {
  emptyMessage,
  frame,
  literals,
  preface,
  requestFields,
  settings
} from '../../unit/agent/csi/authority/raw-client.ts'
import { TestNode, mountsBelow, processesOf } from '../endtoend/node.ts'
import { chooseSeed } from '../../model/seed.ts'

const rounds = process.env['VOLBRIDGE_LONG'] === '1' ? 20_000 : 600
const captured = readFileSync('test/fixtures/http2/grpc-go-socket-path-authority.bin')
/** Connections at once: more than kubelet ever has, fewer than the agent may have. */
const atOnce = 8

/** A gRPC message in its frame of five bytes. */
function message (bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}

/** Requests of every kind with something in every field; nothing in them can be mounted. */
function bodies (kubelet: string): readonly (readonly [string, Buffer])[] {
  const { Node } = loadServices()
  const request = {
    volumeId: 'pv-noise', stagingTargetPath: `${kubelet}/plugins/noise`, targetPath: `${kubelet}/pods/noise/mount`,
    volumePath: `${kubelet}/pods/noise/mount`, readonly: true,
    volumeContext: {
      server: '127.0.0.1', share: '/none', mountOptions: 'port=1,mountport=1,retry=0',
      'csi.storage.k8s.io/ephemeral': 'true'
    },
    secrets: { password: 'secret' },
    volumeCapability: {
      accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' },
      mount: { fsType: 'nfs', mountFlags: ['ro'], volumeMountGroup: '12' }
    },
    capacityRange: { requiredBytes: '5', limitBytes: '6' }
  }
  const methods = [
    'NodeGetInfo', 'NodeGetCapabilities', 'NodeGetVolumeStats', 'NodeExpandVolume', 'NodeUnpublishVolume',
    'NodeUnstageVolume', 'NodeStageVolume', 'NodePublishVolume'
  ] as const
  return methods.map((method) => [method, message(Node[method]?.requestSerialize(request) ?? Buffer.alloc(0))] as const)
}

class Noise {
  readonly #random: Random
  readonly #bodies: readonly (readonly [string, Buffer])[]

  constructor (random: Random, kubelet: string) {
    this.#random = random
    this.#bodies = bodies(kubelet)
  }

  #below (limit: number): number { return Math.floor(this.#random() * limit) }
  #pick<T> (list: readonly T[]): T { return list[this.#below(list.length)] as T }
  #bytes (length: number): Buffer { return Buffer.from(Array.from({ length }, () => this.#below(256))) }

  #call (stream: number): Buffer[] {
    const [method, body] = this.#pick(this.#bodies)
    const authority = this.#pick(['/var/lib/kubelet/plugins/x/csi.sock', '', 'localhost', '%2Fvar', undefined])
    return [
      frame(1, 4, stream, literals(requestFields(`/csi.v1.Node/${method}`, authority), this.#pick([0, 0x40, 0x10]))),
      frame(0, 1, stream, this.#random() < 0.5 ? body : this.#changed(body))
    ]
  }

  #odd (): Buffer {
    return this.#pick<() => Buffer>([
      // Any type, flag and stream, the reserved bit too.
      () => frame(this.#below(16), this.#below(256), this.#below(2 ** 32), this.#bytes(this.#below(40))),
      // A length that never comes.
      () =>
        Buffer.concat([
          Buffer.of(0xff, 0xff, 0xff, this.#below(10), this.#below(256), 0, 0, 0, 1), this.#bytes(this.#below(200))
        ]),
      () => frame(1, 0, 1, literals(requestFields('/csi.v1.Node/NodeGetInfo', 'a'))),
      () => frame(9, this.#below(8), 1, this.#bytes(this.#below(300))),
      () => frame(8, 0, this.#below(3), Buffer.of(0x7f, 0xff, 0xff, 0xff)),
      () => frame(4, 0, 0, this.#bytes(6 * this.#below(5))),
      () => frame(6, 0, 0, Buffer.alloc(8)),
      () => frame(3, 0, 1 + 2 * this.#below(4), Buffer.alloc(4)),
      // Messages that lie about their length, claim to be compressed, or are none.
      () =>
        frame(
          0,
          1,
          1,
          Buffer.of(
            this.#below(3),
            this.#below(256),
            this.#below(256),
            this.#below(256),
            this.#below(256),
            ...this.#bytes(this.#below(60))
          )
        ),
      () => emptyMessage,
      () => this.#bytes(this.#below(500))
    ])()
  }

  #changed (bytes: Buffer): Buffer {
    const changed = Buffer.from(bytes)
    for (let n = 0; changed.length > 0 && n <= this.#below(6); n++) {
      changed[this.#below(changed.length)] = this.#below(256)
    }
    return this.#random() < 0.3 ? changed.subarray(0, this.#below(changed.length + 1)) : changed
  }

  /** Everything one connection says. */
  conversation (): Buffer {
    const start = this.#random() < 0.9 ? [preface, settings] : []
    const parts: Buffer[] = [...start]
    for (let n = 0; n <= this.#below(5); n++) {
      parts.push(...this.#random() < 0.5 ? this.#call(1 + 2 * n) : [this.#odd()])
    }
    const whole = this.#random() < 0.2
      ? Buffer.from(captured.subarray(0, 1 + this.#below(captured.length)))
      : Buffer.concat(parts)
    return this.#random() < 0.5 ? whole : this.#changed(whole)
  }

  /** Says it, in pieces, and goes: politely, or not. */
  async speak (socketPath: string): Promise<void> {
    const bytes = this.conversation()
    const [isPolite, pieceBytes, staysMs] = [this.#random() < 0.5, 1 + this.#below(bytes.length + 1), this.#below(12)]
    const socket = connect(socketPath)
    socket.on('error', () => undefined)
    const closed = new Promise((resolve) => { socket.once('close', resolve) })
    socket.resume()
    for (let at = 0; at < bytes.length; at += pieceBytes) socket.write(bytes.subarray(at, at + pieceBytes))
    if (isPolite) socket.end()
    await Promise.race([closed, pause(staysMs)])
    socket.destroy()
    await closed
  }
}

testNeeding('root', 'fuse')('malformed frames and messages on any socket end their connection at most: the agent answers others all the while, and keeps nothing', async (t) => {
  t.timeout(rounds * 100 + 280_000)
  const seed = chooseSeed((line) => { t.log(line) })
  const node = new TestNode()
  t.teardown(async () => { await node.close() })
  await node.startAgent(['--csi-health'])
  for (const folder of ['plugins/noise', 'pods/noise']) mkdirSync(path.join(node.kubelet, folder), { recursive: true })
  const kubelet = new Kubelet(node.kubelet)
  const pid = node.agentPid
  const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length
  const kibibytes = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  const answers = async (): Promise<void> => {
    t.like(await kubelet.call(node.csiSocket, 'NodeGetInfo', {}, 60_000), { nodeId: 'test-node' })
  }
  await answers()
  const before = descriptors()
  const noise = new Noise(randomOf(seed), node.kubelet)
  const sockets = [
    node.csiSocket, node.csiSocket, node.agentSocket,
    path.join(node.kubelet, 'plugins_registry/csi.volbridge.io-reg.sock')
  ]
  for (let round = 0; round < rounds; round += atOnce) {
    await Promise.all(Array.from({ length: atOnce }, async (_, n) => {
      await noise.speak(sockets[n % sockets.length] ?? '')
    }))
    if (round % (atOnce * 10) === 0) await answers()
  }
  await answers()
  for (const endMs = monotonicMs() + 60_000; descriptors() > before + 2 && monotonicMs() < endMs;) await pause(200)
  t.true(descriptors() <= before + 2, `${before} descriptors before, ${descriptors()} after`)
  t.log(`${rounds} connections; the agent has ${Math.round(kibibytes() / 1024)} MiB`)
  t.true(kibibytes() < 300 * 1024)
  t.is(node.agentPid, pid)
  // A changed byte may have made a server's name that is asked for as long as a mount may take.
  const sessions = async (): Promise<readonly string[]> =>
    (await processesOf(node.runtime)).filter((line) => line.includes(' session '))
  // Between two attempts of such a mount there is no session either.
  const endMs = monotonicMs() + 180_000
  for (let quiet = 0; quiet < 8 && monotonicMs() < endMs; await pause(500)) {
    quiet = (await sessions()).length > 0
      ? 0
      : quiet + 1
  }
  t.deepEqual([mountsBelow(node.folder), await sessions()], [[], []])
  t.deepEqual(
    node.agentLog.split('\n').filter((line) => line.includes('"op":"agent"') || line.length > 20_000).map((line) =>
      line.slice(0, 500)
    ),
    [],
    'no failure of the agent itself, no endless line'
  )
})
