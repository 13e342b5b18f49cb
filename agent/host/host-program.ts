/**
 * The small programs of system calls that a forked child runs. Owns their encoding (read by native/host_call.c) and
 * mount flag numbers. Does not know who runs them, or how long they may take.
 */

/** mount(2) flags, uapi/linux/mount.h. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  DIRSYNC: 128,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  REC: 16384,
  RELATIME: 1 << 21
} as const

/** umount2(2) flags. UMOUNT_NOFOLLOW is always added by the child. */
export const MNT = { FORCE: 1, DETACH: 2 } as const

export type HostOp =
  | {
    readonly op: 'mount' | 'mountAt'
    readonly source: string
    readonly target: string
    readonly type: string
    readonly data: string
    readonly flags: number
  }
  | { readonly op: 'umount', readonly path: string, readonly flags: number }
  | { readonly op: 'mkdir' | 'chmod' | 'chgrp' | 'immutable', readonly path: string, readonly mode: number }
  | {
    readonly op: 'rmdir' | 'statfs' | 'stat' | 'setns' | 'empty' | 'inspect' | 'isolate' | 'attach' | 'syncfs' | 'abort'
    readonly path: string
  }
  /** `path` is relative to `base`. flags 1: bind it over `base`; 2: it may be a file as well. */
  | { readonly op: 'beneath', readonly base: string, readonly path: string, readonly flags: number }
  | { readonly op: 'pause', readonly ms: number }
  | { readonly op: 'write', readonly path: string, readonly text: string }

/** Numbers of `enum opcode` in host_call.c. */
const opcodes = {
  mount: 1, umount: 2, mkdir: 3, rmdir: 4, statfs: 5, stat: 6, chmod: 7, setns: 8, empty: 9, inspect: 10, mountAt: 11,
  pause: 12, write: 13,
  isolate: 14, beneath: 15, attach: 16, syncfs: 17, chgrp: 18, abort: 19, immutable: 20
} as const satisfies Record<HostOp['op'], number>

/** The system call, for messages. */
export const callNames = {
  mount: 'mount', umount: 'umount2', mkdir: 'mkdir', rmdir: 'rmdir', statfs: 'statfs', stat: 'stat', chmod: 'chmod',
  setns: 'setns',
  empty: 'opening', inspect: 'resolving', mountAt: 'mount', pause: 'pause', write: 'writing',
  isolate: 'unshare for', beneath: 'entering', attach: 'move_mount to', syncfs: 'syncfs', chgrp: 'chown',
  abort: 'umount2 with MNT_FORCE', immutable: 'changing the flags of'
} as const satisfies Record<HostOp['op'], string>

/** The path an operation is about, for messages. */
export function subjectOf (op: HostOp): string {
  if ('path' in op) return op.path
  return 'target' in op ? op.target : ''
}

/** op ⇒ code:u32 flags:u32 mode:u32 count:u32 (length:u32 bytes NUL)*count, native byte order (both ends are this
 * machine). */
export function encodeProgram (ops: readonly HostOp[]): Buffer {
  return Buffer.concat(ops.flatMap((op) => {
    const texts = textsOf(op)
    const head = Buffer.alloc(16)
    head.writeUInt32LE(opcodes[op.op], 0)
    head.writeUInt32LE('flags' in op ? op.flags >>> 0 : 0, 4)
    head.writeUInt32LE('mode' in op ? op.mode : 'ms' in op ? op.ms : 0, 8)
    head.writeUInt32LE(texts.length, 12)
    return [head, ...texts.map(encodeText)]
  }))
}

function textsOf (op: HostOp): string[] {
  if ('base' in op) return [op.base, op.path]
  if ('path' in op) return 'text' in op ? [op.path, op.text] : [op.path]
  return 'source' in op ? [op.source, op.target, op.type, op.data] : []
}

function encodeText (text: string): Buffer {
  if (text.includes('\0')) throw new TypeError('a path or option contains a NUL byte')
  const bytes = Buffer.from(text, 'utf8')
  const out = Buffer.alloc(4 + bytes.length + 1)
  out.writeUInt32LE(bytes.length + 1, 0)
  bytes.copy(out, 4)
  return out
}

export interface HostRecord {
  readonly step: number
  readonly error: number
  readonly data: Buffer
}

/** record ⇒ step:i32 error:i32 size:u32 data:size. A truncated tail means that the child was killed. */
export function decodeRecords (bytes: Buffer): readonly HostRecord[] {
  const records: HostRecord[] = []
  for (let at = 0; at + 12 <= bytes.length;) {
    const size = bytes.readUInt32LE(at + 8)
    if (at + 12 + size > bytes.length) break
    records.push({
      step: bytes.readInt32LE(at), error: bytes.readInt32LE(at + 4), data: bytes.subarray(at + 12, at + 12 + size)
    })
    at += 12 + size
  }
  return records
}
