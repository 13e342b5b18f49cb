/*
 * Listings, kernel include/uapi/linux/fuse.h; a listing is as many of these as fit, each padded to 8 bytes
 *   fuse_dirent     => ino:u64 off:u64 namelen:u32 type:u32 name
 *   fuse_direntplus => fuse_entry_out fuse_dirent
 * A direntplus with nodeid 0 is a plain name: no lookup is counted for it (kernel fs/fuse/readdir.c,
 * fuse_direntplus_link).
 */
import { MODE_TYPE } from './attributes.ts'
import type { NodeType } from './attributes.ts'
import { encodeEntry, ENTRY_OUT_BYTES } from './entries.ts'
import type { EntryOut } from './entries.ts'
import type { FuseWriter } from './writer.ts'

const DIRENT_BYTES = 24

export interface ListedOut {
  readonly name: string
  readonly fileid: bigint
  readonly kind: NodeType | undefined
  readonly nextOffset: number
  readonly entry: EntryOut | undefined
}

const noEntry: EntryOut = { nodeid: 0, entryTtlMs: 0 }

/** Appends one entry if it ends before `limit`; false when it does not fit and nothing was written. */
export function appendListed (out: FuseWriter, limit: number, plus: boolean, listed: ListedOut): boolean {
  const nameBytes = listed.name.length
  const bytes = ((plus ? ENTRY_OUT_BYTES : 0) + DIRENT_BYTES + nameBytes + 7) & ~7
  if (out.offset + bytes > limit) return false
  if (plus) encodeEntry(out, listed.entry ?? noEntry)
  out.uint64(listed.fileid)
  out.number64(listed.nextOffset)
  out.uint32(nameBytes)
  // DT_*: the type bits of a mode, shifted (kernel include/linux/fs_types.h). 0 is DT_UNKNOWN.
  out.uint32(listed.kind === undefined ? 0 : MODE_TYPE[listed.kind] >> 12)
  out.latin1(listed.name)
  const padding = -nameBytes & 7
  if (padding > 0) out.zeros(padding)
  return true
}
