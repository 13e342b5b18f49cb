/**
 * A session process for engine tests: speaks the control protocol and serves an almost empty FUSE root, without NFS.
 * The share's name scripts it: `/refused` fails to configure, `/mute` never answers configure, `/deaf` serves nothing
 * after INIT, `/dirty` loses 4096 bytes when drained. Structures are written from linux/fuse.h, apart from proto/fuse
 * on purpose.
 */
import { read, writeSync } from 'node:fs'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'

const socketPath = process.argv[process.argv.indexOf('--socket') + 1] ?? ''
const fuse = 3
let share = ''
let key = ''
let phase = 'new'
let served: (minor: number) => void = () => undefined
const serving = new Promise<number>((resolve) => { served = resolve })

const FUSE = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, STATFS: 17, INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29,
  ACCESS: 34, INTERRUPT: 36, BATCH_FORGET: 42
}
let mode = 0o40755

function reply (unique: bigint, error: number, body: Buffer = Buffer.alloc(0)): void {
  const out = Buffer.alloc(16 + body.length)
  out.writeUInt32LE(out.length, 0)
  out.writeInt32LE(-error, 4)
  out.writeBigUInt64LE(unique, 8)
  body.copy(out, 16)
  try { writeSync(fuse, out) } catch { /* The request is gone. */ }
}

function attributes (): Buffer {
  const out = Buffer.alloc(16 + 88)
  out.writeBigUInt64LE(1n, 16)
  out.writeUInt32LE(mode, 16 + 60)
  out.writeUInt32LE(2, 16 + 64)
  out.writeUInt32LE(4096, 16 + 80)
  return out
}

function initReply (request: Buffer): Buffer {
  const out = Buffer.alloc(64)
  out.writeUInt32LE(7, 0)
  out.writeUInt32LE(31, 4)
  out.writeUInt32LE(request.readUInt32LE(8), 8)
  out.writeUInt16LE(16, 16)
  out.writeUInt16LE(12, 18)
  out.writeUInt32LE(1 << 17, 20)
  out.writeUInt32LE(1, 24)
  served(request.readUInt32LE(4))
  return out
}

function statfsReply (): Buffer {
  const out = Buffer.alloc(80)
  for (const [at, value] of [1000n, 600n, 600n, 100n, 90n].entries()) out.writeBigUInt64LE(value, at * 8)
  out.writeUInt32LE(4096, 40)
  out.writeUInt32LE(255, 44)
  out.writeUInt32LE(4096, 48)
  return out
}

function serve (request: Buffer): void {
  const opcode = request.readUInt32LE(4)
  const unique = request.readBigUInt64LE(8)
  const body = request.subarray(40)
  if (opcode === FUSE.INIT) return reply(unique, 0, initReply(body))
  if (opcode === FUSE.FORGET || opcode === FUSE.BATCH_FORGET || opcode === FUSE.INTERRUPT || share === '/deaf') return
  if (opcode === FUSE.SETATTR) mode = 0o40000 | (body.readUInt32LE(68) & 0o7777)
  if (opcode === FUSE.GETATTR || opcode === FUSE.SETATTR) return reply(unique, 0, attributes())
  if (opcode === FUSE.STATFS) return reply(unique, 0, statfsReply())
  if (opcode === FUSE.OPENDIR) return reply(unique, 0, Buffer.alloc(16))
  if (opcode === FUSE.READDIR || opcode === FUSE.RELEASEDIR || opcode === FUSE.ACCESS) return reply(unique, 0)
  reply(unique, opcode === FUSE.LOOKUP ? 2 : 38)
}

function pump (): void {
  const buffer = Buffer.alloc(256 * 1024)
  read(fuse, buffer, 0, buffer.length, null, (error, size) => {
    if (error === null) {
      serve(buffer.subarray(0, size))
      return pump()
    }
    if (error.code === 'ENODEV' && phase === 'serving') process.exit(0)
    if (error.code === 'ECONNABORTED' || error.code === 'ENOTCONN') process.exit(0)
    setTimeout(pump, error.code === 'ENOENT' || error.code === 'EINTR' ? 0 : 2)
  })
}

const report = (): object => ({
  key, pid: process.pid, version: 'stand-in', phase, health: 'healthy', healthReason: '', serverAddress: '127.0.0.1',
  sinceLastReplyMs: 0,
  locks: 'node-local', counters: { calls: 1 }, gauges: {}, latency: {}
})

const answers: Record<string, (body: Record<string, unknown>) => unknown> = {
  hello: () => ({ version: 1, report: report() }),
  configure: (body) => {
    key = String(body['key'])
    share = (body['spec'] as { target: { share: string } }).target.share
    if (share === '/refused') {
      throw Object.assign(new Error('the server has no export "/refused"'), {
        code: 'NOT_FOUND', field: 'share', remedy: 'export it'
      })
    }
    if (share === '/mute') return undefined
    phase = 'configured'
    return { serverAddress: '127.0.0.1', rootMode: 0o755, maxReadBytes: 1 << 20, readAheadBytes: 8 << 20 }
  },
  serve: async () => {
    pump()
    const minor = await serving
    phase = 'serving'
    return { minor }
  },
  report: () => report(),
  statistics: () => ({
    totalBytes: '4096000', usedBytes: '1638400', availableBytes: '2457600', totalInodes: '100', usedInodes: '10',
    availableInodes: '90', stale: false, ageMs: 0
  }),
  probe: () => ({ health: 'healthy', reason: '', ms: 1 }),
  drain: () => ({ lostBytes: share === '/dirty' ? 4096 : 0, files: [] }),
  stop: () => {
    setImmediate(() => process.exit(0))
    return {}
  }
}

createServer((socket) => {
  const say = (value: object): void => { socket.write(`${JSON.stringify(value)}\n`) }
  socket.on('error', () => undefined)
  createInterface({ input: socket }).on('line', (line) => {
    const { id, call, body } = JSON.parse(line) as { id: number, call: string, body: Record<string, unknown> }
    void Promise.resolve()
      .then(async () => await answers[call]?.(body))
      .then((result) => { if (result !== undefined) say({ id, body: result }) }, (error: Error & { code?: string }) => {
        say({
          id,
          error: {
            code: error.code ?? 'INTERNAL', message: error.message, ...Object.fromEntries(Object.entries(error))
          }
        })
      })
  })
}).listen(socketPath)
