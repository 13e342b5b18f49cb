/**
 * What the doors get when the host or a session fails. Owns that one translation, by a table. Does not know gRPC or
 * Flex.
 */
import { HostError, TransportError, VolumeError, messageOf, type VolumeErrorCode } from '../base/errors.ts'

const codeOfErrno: Readonly<Record<string, VolumeErrorCode>> = {
  ETIMEDOUT: 'TIMED_OUT',
  EAGAIN: 'EXHAUSTED',
  EMFILE: 'EXHAUSTED',
  ENFILE: 'EXHAUSTED',
  ENOMEM: 'EXHAUSTED',
  ENOSPC: 'EXHAUSTED',
  EDQUOT: 'EXHAUSTED',
  EPERM: 'DENIED',
  EACCES: 'DENIED'
}

const remedyOfErrno: Readonly<Record<string, string>> = {
  EPERM: 'run as root with CAP_SYS_ADMIN (in a container: privileged)',
  EMFILE: 'raise the open file limit of the agent',
  ENFILE: 'raise fs.file-max',
  ENOSPC: 'make room in the state folder',
  EROFS: 'give a writable state folder (--state-dir)',
  ENODEV: 'load the fuse module (modprobe fuse)'
}

/** A VolumeError stays what it is; our own bugs and unknown things become INTERNAL. */
export function toVolumeError (error: unknown): Error {
  if (error instanceof VolumeError) return error
  if (error instanceof TransportError) {
    return new VolumeError(error.code === 'TIMED_OUT' ? 'TIMED_OUT' : 'UNAVAILABLE', error.message, {
      cause: error, remedy: 'repeat the call'
    })
  }
  const errno = error instanceof HostError || (error instanceof Error && 'code' in error) ? String(error.code) : ''
  const remedy = remedyOfErrno[errno]
  /* openFuseDevice and its like bring their remedy in the message. */
  const facts = remedy === undefined || messageOf(error).includes(remedy) ? { cause: error } : { cause: error, remedy }
  return new VolumeError(codeOfErrno[errno] ?? 'INTERNAL', messageOf(error), facts)
}
