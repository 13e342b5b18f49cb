// The server's manners that libnfs never asks for: handles after renames, what a restart loses, the reply cache,
// verdicts of a script.
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { XdrWriter } from '../../../proto/xdr/writer.ts'
import { NfsServer, type NfsServerOptions } from '../../peers/nfs-server/server.ts'
import { RpcClient } from './rpc-client.ts'

const [NFS, MOUNT] = [100003, 100005]
const procedures = { GETATTR: 1, LOOKUP: 3, READ: 6, WRITE: 7, MKDIR: 9, RENAME: 14, READDIR: 16, COMMIT: 21 } as const
const status = { OK: 0, EXIST: 17, STALE: 70, BADHANDLE: 10001, JUKEBOX: 10008 } as const

class Nfs {
  readonly server: NfsServer
  client: RpcClient
  #xid = 100

  private constructor (server: NfsServer, client: RpcClient) {
    this.server = server
    this.client = client
  }

  static async start (
    t: ExecutionContext,
    options: Partial<NfsServerOptions> = {}
  ): Promise<{ nfs: Nfs, folder: string, root: Buffer }> {
    const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-nfs-'))
    const server = await NfsServer.start({ folder, ...options })
    const nfs = new Nfs(server, await RpcClient.connect(server.port))
    t.teardown(async () => {
      nfs.client.close()
      await server.close()
      rmSync(folder, { recursive: true, force: true })
    })
    nfs.client.send(1, MOUNT, 3, 1, (out) => { out.latin1('/export', 1024) })
    const reply = await nfs.client.next()
    return { nfs, folder, root: Buffer.from(reply?.bytes.subarray(8, 28) ?? []) }
  }

  async call (
    procedure: keyof typeof procedures,
    encode: (out: XdrWriter) => void,
    xid = this.#xid++
  ): Promise<{ status: number, bytes: Buffer }> {
    this.client.send(xid, NFS, 3, procedures[procedure], encode)
    const reply = await this.client.next()
    return { status: reply?.words[1] ?? -1, bytes: reply?.bytes.subarray(4) ?? Buffer.alloc(0) }
  }

  async lookup (parent: Buffer, name: string): Promise<Buffer> {
    const { bytes } = await this.call('LOOKUP', (out) => { out.opaque(parent, 64); out.latin1(name, 255) })
    return Buffer.from(bytes.subarray(4, 24))
  }

  async getattr (handle: Buffer): Promise<number> {
    return (await this.call('GETATTR', (out) => { out.opaque(handle, 64) })).status
  }

  async write (
    handle: Buffer,
    offset: number,
    data: string,
    stable: number
  ): Promise<{ count: number, committed: number, verifier: string }> {
    const { bytes } = await this.call('WRITE', (out) => {
      out.opaque(handle, 64)
      out.size64(offset)
      out.uint32(data.length)
      out.uint32(stable)
      out.opaque(Buffer.from(data), 1024 * 1024)
    })
    // wcc_data with both halves present is 4 + 24 + 4 + 84 bytes.
    return {
      count: bytes.readUInt32BE(116), committed: bytes.readUInt32BE(120), verifier: bytes.toString('hex', 124, 132)
    }
  }
}

test('a handle follows its object through renames, also of a folder above it', async (t) => {
  const { nfs, folder, root } = await Nfs.start(t)
  mkdirSync(path.join(folder, 'a'))
  writeFileSync(path.join(folder, 'a', 'file'), '')
  const handle = await nfs.lookup(await nfs.lookup(root, 'a'), 'file')
  const { status: renamed } = await nfs.call('RENAME', (out) => {
    out.opaque(root, 64)
    out.latin1('a', 255)
    out.opaque(root, 64)
    out.latin1('b', 255)
  })
  t.is(renamed, status.OK)
  t.is(await nfs.getattr(handle), status.OK)
  rmSync(path.join(folder, 'b', 'file'))
  t.is(await nfs.getattr(handle), status.STALE)
})

test('a removed object is stale even if its inode number is used again, rubbish is a bad handle', async (t) => {
  const { nfs, folder, root } = await Nfs.start(t)
  writeFileSync(path.join(folder, 'file'), 'old')
  const handle = await nfs.lookup(root, 'file')
  writeFileSync(path.join(folder, 'other'), 'new')
  renameSync(path.join(folder, 'other'), path.join(folder, 'file'))
  t.is(await nfs.getattr(handle), status.STALE)
  t.is(await nfs.getattr(Buffer.from('rubbish!')), status.BADHANDLE)
})

test('a restart loses what was not committed, keeps what was, and changes the verifier', async (t) => {
  const { nfs, folder, root } = await Nfs.start(t, { losesUnstable: true })
  writeFileSync(path.join(folder, 'kept'), '')
  writeFileSync(path.join(folder, 'lost'), 'before')
  const [kept, lost] = [await nfs.lookup(root, 'kept'), await nfs.lookup(root, 'lost')]
  const { committed, verifier } = await nfs.write(kept, 0, 'committed', 0)
  t.is(committed, 0)
  await nfs.call('COMMIT', (out) => { out.opaque(kept, 64); out.size64(0); out.uint32(0) })
  await nfs.write(lost, 3, 'overwritten and longer', 0)
  t.is(readFileSync(path.join(folder, 'lost'), 'utf8'), 'befoverwritten and longer')
  await nfs.server.restart()
  t.is(readFileSync(path.join(folder, 'kept'), 'utf8'), 'committed')
  t.is(readFileSync(path.join(folder, 'lost'), 'utf8'), 'before')
  nfs.client = await RpcClient.connect(nfs.server.port)
  t.is(await nfs.getattr(kept), status.OK)
  t.not((await nfs.write(kept, 0, 'x', 0)).verifier, verifier)
})

test('a repeated MKDIR with the same xid gets the first answer, without a reply cache it fails', async (t) => {
  for (const [replyCacheMax, again] of [[256, status.OK], [0, status.EXIST]] as const) {
    const { nfs, root } = await Nfs.start(t, { replyCacheMax })
    const mkdir = async (xid: number): Promise<number> =>
      (await nfs.call('MKDIR', (out) => {
        out.opaque(root, 64)
        out.latin1('new', 255)
        for (let word = 0; word < 6; word++) out.uint32(0)
      }, xid)).status
    t.is(await mkdir(55), status.OK)
    t.is(await mkdir(55), again)
    t.is(await mkdir(56), status.EXIST)
  }
})

test('a script shortens writes, claims stability, answers JUKEBOX once and rolls the verifier', async (t) => {
  const { nfs, folder, root } = await Nfs.start(t, {
    script: ({ procedure, nth }) => {
      if (procedure === 'WRITE') {
        return nth === 0
          ? { bytesMax: 2 }
          : { committed: 1, verifier: Buffer.from('verifier') }
      }
      return procedure === 'GETATTR' && nth === 0 ? { status: 'JUKEBOX' } : undefined
    }
  })
  writeFileSync(path.join(folder, 'file'), '')
  const handle = await nfs.lookup(root, 'file')
  t.is(await nfs.getattr(handle), status.JUKEBOX)
  t.is(await nfs.getattr(handle), status.OK)
  t.is((await nfs.write(handle, 0, 'abcdef', 0)).count, 2)
  t.is(readFileSync(path.join(folder, 'file'), 'utf8'), 'ab')
  t.deepEqual(await nfs.write(handle, 2, 'cd', 0), {
    count: 2, committed: 1, verifier: Buffer.from('verifier').toString('hex')
  })
})

test('cookies stay good while entries come and go, and use bits beyond 2^53', async (t) => {
  const { nfs, folder, root } = await Nfs.start(t)
  const names = Array.from({ length: 60 }, (_, index) => `name-${index}`)
  for (const name of names) writeFileSync(path.join(folder, name), '')
  const seen: string[] = []
  let cookie = 0n
  for (let isEnd = false; !isEnd;) {
    const { bytes } = await nfs.call('READDIR', (out) => {
      out.opaque(root, 64)
      out.uint64(cookie)
      out.fixed(Buffer.alloc(8))
      out.uint32(512)
    })
    let at = 4 + 84 + 8
    while (bytes.readUInt32BE(at) === 1) {
      const length = bytes.readUInt32BE(at + 12)
      seen.push(bytes.toString('latin1', at + 16, at + 16 + length))
      at += 16 + ((length + 3) & ~3)
      cookie = bytes.readBigUInt64BE(at)
      at += 8
    }
    isEnd = bytes.readUInt32BE(at + 4) === 1
    // Something else comes and goes between any two pages.
    writeFileSync(path.join(folder, `other-${seen.length}`), '')
    rmSync(path.join(folder, `other-${seen.length}`))
  }
  t.true(cookie > 2n ** 53n)
  t.deepEqual(seen.filter((name) => name.startsWith('name-')).sort(), names.sort())
  t.deepEqual(seen.slice(0, 2), ['.', '..'])
})
