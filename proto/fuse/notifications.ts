/*
 * Messages to the kernel that answer nothing, kernel include/uapi/linux/fuse.h: a fuse_out_header with unique 0 and the
 * code as error
 *   INVAL_INODE (2) => ino:u64 off:s64 len:s64      off < 0: attributes only; len <= 0: to the end of the file
 *   INVAL_ENTRY (3) => parent:u64 namelen:u32 flags:u32 name NUL
 *                      flags 1, FUSE_EXPIRE_ONLY: look it up again, but don't drop it
 *   PRUNE (9)       => count:u32 padding:u32 spare:u64 { ino:u64 }[count]     drops what nobody uses of these
 *   RESEND (7)      => nothing: the kernel sends every unanswered request again, bit 63 of unique set
 */

const CODE = { INVAL_INODE: 2, INVAL_ENTRY: 3, RESEND: 7, PRUNE: 9 } as const
export type NotificationName = keyof typeof CODE

function frame (name: NotificationName, bodyBytes: number): Buffer {
  const message = Buffer.alloc(16 + bodyBytes)
  message.writeUInt32LE(message.length, 0)
  message.writeInt32LE(CODE[name], 4)
  return message
}

/** `lengthBytes` 0 drops attributes only, -1 reaches to the end of the file. */
export function encodeInvalInode (nodeid: number, offsetBytes: number, lengthBytes: number): Buffer {
  const message = frame('INVAL_INODE', 24)
  message.writeBigUInt64LE(BigInt(nodeid), 16)
  message.writeBigInt64LE(BigInt(lengthBytes === 0 ? -1 : offsetBytes), 24)
  message.writeBigInt64LE(BigInt(lengthBytes), 32)
  return message
}

/** Only for kernels that offer HAS_EXPIRE_ONLY (Linux 6.2). */
const FUSE_EXPIRE_ONLY = 1

export function encodeInvalEntry (parent: number, name: string, isExpiryOnly: boolean): Buffer {
  const message = frame('INVAL_ENTRY', 16 + name.length + 1)
  message.writeBigUInt64LE(BigInt(parent), 16)
  message.writeUInt32LE(name.length, 24)
  message.writeUInt32LE(isExpiryOnly ? FUSE_EXPIRE_ONLY : 0, 28)
  message.write(name, 32, 'latin1')
  return message
}

/** Only for kernels that speak minor 45 (Linux 6.18). */
export function encodePrune (nodeids: readonly number[]): Buffer {
  const message = frame('PRUNE', 16 + 8 * nodeids.length)
  message.writeUInt32LE(nodeids.length, 16)
  nodeids.forEach((nodeid, index) => { message.writeBigUInt64LE(BigInt(nodeid), 32 + 8 * index) })
  return message
}

export function encodeResend (): Buffer { return frame('RESEND', 0) }
