/**
 * Write errors that nobody was waiting for. Owns the rule that each is told to every handle that was open when it
 * happened, once, and to the next opener if nobody was told (the rule of the kernel's errseq_t, lib/errseq.c). Does not
 * know where errors come from.
 */
import type { Errno } from '../../base/errno.ts'
import type { Inode } from '../objects/inode.ts'

export function recordError (inode: Inode, errno: Errno): void {
  const errors = inode.errors ??= { sequence: 0, latest: undefined, isTold: true }
  errors.sequence += 1
  errors.latest = errno
  errors.isTold = false
}

/** What a new handle counts as seen: everything, unless the latest error was told to nobody yet. */
export function errorsSeenAtOpen (inode: Inode): number {
  const errors = inode.errors
  if (errors === undefined) return 0
  return errors.isTold ? errors.sequence : errors.sequence - 1
}

/** The error this handle was not told yet. It counts as told when `noteTold` says that the answer has arrived. */
export function takeError (inode: Inode, handle: { errorsSeen: number }): Errno | undefined {
  const errors = inode.errors
  if (errors === undefined || handle.errorsSeen >= errors.sequence) return undefined
  handle.errorsSeen = errors.sequence
  return errors.latest
}

/** Whoever waits for this handle has got its error. */
export function noteTold ({ errors }: Inode, handle: { readonly errorsSeen: number }): void {
  if (errors !== undefined && handle.errorsSeen === errors.sequence) errors.isTold = true
}
