/**
 * Captured records for the tests of proto/: replies with their expected procedure, and the facts.
 * Owns reading test/fixtures/nfs3.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { mountProcedures } from '../../../../proto/mount3/procedures.ts'
import { type Nfs3ProcedureName, procedures } from '../../../../proto/nfs3/procedures.ts'
import type { Procedure } from '../../../../proto/rpc/procedure.ts'
import { decodeReplyHead, requireReply } from '../../../../proto/rpc/reply.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'

const folder = path.join(import.meta.dirname, '../../../fixtures/nfs3')

/** Stands for what was asked where a decoder compares: nothing in the captures is larger. */
const asked = { countBytes: 1 << 20, data: [Buffer.alloc(1 << 20)] }

export interface FileFacts {
  mode: string
  nlink: string
  uid: string
  gid: string
  size: string
  ino: string
  mtimeNs: string
  ctimeNs: string
  blocks: string
}
export interface Facts {
  file: FileFacts
  link: FileFacts
  dir: FileFacts
  device: FileFacts
  readdir: string[]
  statfs: { totalBytes: string, totalFiles: string }
}

export const facts = JSON.parse(readFileSync(path.join(folder, 'facts.json'), 'utf8')) as Facts
export const record = (file: string): Buffer => readFileSync(path.join(folder, file))
export const replyFiles = readdirSync(folder).filter((file) => file.endsWith('.ganesha.bin'))
export const callFiles = readdirSync(folder).filter((file) => file.endsWith('.libnfs-call.bin'))

export function procedureOf (file: string): Procedure<unknown, unknown> {
  const word = file.split(/[-.](?:\d|libnfs)/)[0] ?? ''
  const row = word.startsWith('mount-')
    ? mountProcedures[word.slice(6).toUpperCase() as keyof typeof mountProcedures]
    : procedures[word.toUpperCase() as Nfs3ProcedureName]
  return row as unknown as Procedure<unknown, unknown>
}

/** Decodes a whole reply record. */
export function decodeReply (row: Procedure<unknown, unknown>, bytes: Buffer): unknown {
  const input = new XdrReader(bytes)
  input.uint32()
  requireReply(input)
  const rejection = decodeReplyHead(input)
  return rejection ?? row.decode(input, asked)
}
