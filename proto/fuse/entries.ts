/*
 * Names, kernel include/uapi/linux/fuse.h
 *   fuse_entry_out => nodeid:u64 generation:u64 entry_valid:u64 attr_valid:u64 entry_valid_nsec:u32 attr_valid_nsec:u32
 *   attr:fuse_attr LOOKUP, UNLINK, RMDIR in => name
 *   SYMLINK in => name target          MKDIR in => mode:u32 umask:u32 name
 *   MKNOD in   => mode:u32 rdev:u32 umask:u32 padding:u32 name
 *   LINK in    => oldnodeid:u64 name   RENAME in => newdir:u64 oldname newname
 *   RENAME2 in => newdir:u64 flags:u32 padding:u32 oldname newname
 *   CREATE in  => flags:u32 mode:u32 umask:u32 open_flags:u32 name      CREATE out => fuse_entry_out fuse_open_out
 *   out of LOOKUP, SYMLINK, MKDIR, MKNOD, LINK => fuse_entry_out; of the others nothing
 */
import { WireError } from '../../agent/base/errors.ts'
import { decodeDevice, encodeAttr, MODE_TYPE, ttlNanoseconds, ttlSeconds } from './attributes.ts'
import type { FuseAttributes, NodeType } from './attributes.ts'
import { decodeOpenFlags, encodeOpenOut } from './files.ts'
import type { OpenIn, OpenOut } from './files.ts'
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export const ENTRY_OUT_BYTES = 128
/** FUSE_NAME_MAX, kernel fs/fuse/fuse_i.h: longer names never reach us. What a file system allows is its own matter. */
const FUSE_NAME_MAX = 1024
/** PATH_MAX: the longest symlink target. */
const PATH_MAX = 4096

/** A name found or made; nodeid 0 says that it does not exist and how long that may be believed. */
export type EntryOut =
  | {
    readonly nodeid: number
    readonly generation: number
    readonly entryTtlMs: number
    readonly attributesTtlMs: number
    readonly attributes: FuseAttributes
  }
  | { readonly nodeid: 0, readonly entryTtlMs: number }

export function encodeEntry (out: FuseWriter, entry: EntryOut): void {
  const found = 'attributes' in entry ? entry : undefined
  out.number64(entry.nodeid)
  out.number64(found?.generation ?? 0)
  out.number64(ttlSeconds(entry.entryTtlMs))
  out.number64(ttlSeconds(found?.attributesTtlMs ?? 0))
  out.uint32(ttlNanoseconds(entry.entryTtlMs))
  out.uint32(ttlNanoseconds(found?.attributesTtlMs ?? 0))
  if (found === undefined) out.zeros(88)
  else encodeAttr(out, found.attributes)
}

export interface NameIn { readonly name: string }

export function decodeName (input: FuseReader): NameIn {
  const name = input.name(FUSE_NAME_MAX)
  input.end()
  return { name }
}

export interface SymlinkIn { readonly name: string, readonly target: string }

export function decodeSymlink (input: FuseReader): SymlinkIn {
  const name = input.name(FUSE_NAME_MAX)
  const target = input.name(PATH_MAX)
  input.end()
  return { name, target }
}

export interface MkdirIn { readonly mode: number, readonly name: string }

export function decodeMkdir (input: FuseReader): MkdirIn {
  const mode = input.uint32() & 0o7777
  input.skip(4)
  const name = input.name(FUSE_NAME_MAX)
  input.end()
  return { mode, name }
}

export interface MknodIn {
  readonly kind: NodeType
  readonly mode: number
  readonly major: number
  readonly minor: number
  readonly name: string
}

const kinds = new Map<number, NodeType>(Object.entries(MODE_TYPE).map(([kind, bits]) => [bits, kind as NodeType]))

export function decodeMknod (input: FuseReader): MknodIn {
  const mode = input.uint32()
  const device = decodeDevice(input.uint32())
  input.skip(8)
  const name = input.name(FUSE_NAME_MAX)
  input.end()
  const kind = kinds.get(mode & 0o170000)
  if (kind === undefined) throw new WireError('INVALID', `mknod of a node with mode ${mode.toString(8)}`)
  return { kind, mode: mode & 0o7777, ...device, name }
}

export interface LinkIn { readonly oldNodeid: number, readonly name: string }

export function decodeLink (input: FuseReader): LinkIn {
  const oldNodeid = input.number64()
  const name = input.name(FUSE_NAME_MAX)
  input.end()
  return { oldNodeid, name }
}

/** RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of renameat2(2). */
export interface RenameIn {
  readonly newParent: number
  readonly noReplace: boolean
  readonly exchange: boolean
  readonly whiteout: boolean
  readonly oldName: string
  readonly newName: string
}

function decodeRenameNames (input: FuseReader, newParent: number, flags: number): RenameIn {
  const oldName = input.name(FUSE_NAME_MAX)
  const newName = input.name(FUSE_NAME_MAX)
  input.end()
  return {
    newParent, noReplace: (flags & 1) !== 0, exchange: (flags & 2) !== 0, whiteout: (flags & 4) !== 0, oldName, newName
  }
}

export function decodeRename (input: FuseReader): RenameIn {
  return decodeRenameNames(input, input.number64(), 0)
}

export function decodeRename2 (input: FuseReader): RenameIn {
  const newParent = input.number64()
  const flags = input.uint32()
  input.skip(4)
  return decodeRenameNames(input, newParent, flags)
}

export interface CreateIn extends OpenIn { readonly mode: number, readonly name: string }

export function decodeCreate (input: FuseReader): CreateIn {
  const flags = input.uint32()
  const mode = input.uint32() & 0o7777
  input.skip(4)
  const openFlags = input.uint32()
  const name = input.name(FUSE_NAME_MAX)
  input.end()
  return { ...decodeOpenFlags(flags, openFlags), mode, name }
}

export interface CreateOut { readonly entry: EntryOut, readonly opened: OpenOut }

export function encodeCreate (out: FuseWriter, { entry, opened }: CreateOut): void {
  encodeEntry(out, entry)
  encodeOpenOut(out, opened)
}
