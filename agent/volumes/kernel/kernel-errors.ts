/**
 * mount(2)'s numbers in an operator's words. Owns that table and which failures make an older NFS version worth a try.
 * Does not know who mounts.
 */
import { showName } from '../../base/brands.ts'
import { VolumeError, type HostError, type VolumeErrorCode } from '../../base/errors.ts'
import type { KernelNfsVersion, VolumeSpec } from '../../base/volume-spec.ts'
import { toVolumeError } from '../failures.ts'

export interface KernelAttempt {
  readonly spec: VolumeSpec
  readonly version: KernelNfsVersion
  /** The mount itself succeeded; the folder of `subDir` could not be entered. */
  readonly isAboutFolder: boolean
}

interface Words {
  readonly code: VolumeErrorCode
  readonly field: string
  readonly why: string
  readonly remedy: string
}

const ofShare: Readonly<Record<string, Words>> = {
  EPROTONOSUPPORT: {
    code: 'UNSUPPORTED', field: 'mountOptions', why: 'this NFS version is not spoken by the server or by this kernel',
    remedy: 'use another vers=, or leave it out with client=kernel'
  },
  EPFNOSUPPORT: {
    code: 'UNSUPPORTED', field: 'mountOptions', why: 'the server does not offer this NFS version',
    remedy: 'use another vers=, or leave it out with client=kernel'
  },
  EINVAL: {
    code: 'UNSUPPORTED', field: 'mountOptions', why: 'the kernel refuses the version or an option',
    remedy: 'see the kernel\'s log; leave out options that this kernel is too old for'
  },
  ENOENT: {
    code: 'NOT_FOUND', field: 'share', why: 'the server has no such path',
    remedy: 'check it on the server; with NFS version 4 it starts at the server\'s pseudo root'
  },
  ENOTDIR: {
    code: 'INVALID', field: 'share', why: 'it is not a directory', remedy: 'give the path of an exported directory'
  },
  EACCES: {
    code: 'DENIED', field: 'share', why: 'the server refuses',
    remedy: 'allow this node and this sec= in the server\'s exports; sec=krb5 also needs rpc.gssd on the node'
  },
  EPERM: {
    code: 'DENIED', field: 'share', why: 'the server refuses', remedy: 'allow this node in the server\'s exports'
  },
  ESTALE: { code: 'UNAVAILABLE', field: 'share', why: 'the server no longer knows it', remedy: 'restore the export' },
  EIO: {
    code: 'UNAVAILABLE', field: 'server', why: 'the server does not answer', remedy: 'check the server and the network'
  },
  ETIMEDOUT: {
    code: 'UNAVAILABLE', field: 'server', why: 'the server did not answer in time',
    remedy: 'check the server and the network'
  },
  ECONNREFUSED: {
    code: 'UNAVAILABLE', field: 'server', why: 'the server refuses the connection',
    remedy: 'check that it serves this NFS version there'
  },
  EHOSTUNREACH: {
    code: 'UNAVAILABLE', field: 'server', why: 'the server cannot be reached', remedy: 'check the network'
  },
  ENETUNREACH: {
    code: 'UNAVAILABLE', field: 'server', why: 'the server cannot be reached', remedy: 'check the network'
  }
}

const ofFolder: Readonly<Record<string, Pick<Words, 'code' | 'why' | 'remedy'>>> = {
  ENOENT: { code: 'NOT_FOUND', why: 'does not exist', remedy: 'create it on the server first' },
  ENOTDIR: {
    code: 'INVALID', why: 'is not a directory',
    remedy: 'name real directories only: links are not followed, so that a volume cannot leave its share'
  },
  ELOOP: {
    code: 'INVALID', why: 'leads through a symbolic link',
    remedy: 'name real directories only: links are not followed, so that a volume cannot leave its share'
  },
  EXDEV: { code: 'INVALID', why: 'leads out of the share', remedy: 'name a directory below the share' },
  EACCES: {
    code: 'DENIED', why: 'may not be entered',
    remedy: 'with root squashed, the server\'s anonymous user needs execute permission on each folder'
  },
  ETIMEDOUT: { code: 'UNAVAILABLE', why: 'was not found in time', remedy: 'check the server and the network' }
}

export function toKernelError (error: HostError, attempt: KernelAttempt | undefined): Error {
  if (error.code === 'ENODEV') {
    return new VolumeError('UNSUPPORTED', 'client: this kernel has no NFS client', {
      field: 'client', remedy: 'use client=fuse with vers=3, or load the module (modprobe nfs)', cause: error
    })
  }
  if (attempt === undefined) return toVolumeError(error)
  const { spec: { target }, version } = attempt
  if (attempt.isAboutFolder) {
    const words = ofFolder[error.code]
    if (words === undefined) return toVolumeError(error)
    return new VolumeError(
      words.code,
      `subDir: ${JSON.stringify(target.subDir.map(showName).join('/'))} ${words.why}`,
      { field: 'subDir', remedy: words.remedy, cause: error }
    )
  }
  const words = ofShare[error.code]
  if (words === undefined) return toVolumeError(error)
  const value = {
    share: JSON.stringify(target.share), server: JSON.stringify(target.servers.join(',')),
    mountOptions: `vers=${version}`
  }[words.field] ?? ''
  return new VolumeError(
    words.code,
    `${words.field}: ${value} cannot be mounted by the kernel with NFS version ${version}: ${words.why} (${error.code})`,
    {
      field: words.field, remedy: words.remedy, cause: error
    }
  )
}

/**
 * Whether another version may do what a newer one could not: one that is not spoken, and, for version 3, a path or port
 * that version 4 does not have (its name space starts at a root of its own).
 */
export function isOlderWorthTrying (failure: VolumeError, next: KernelNfsVersion): boolean {
  if (failure.field === 'subDir' || failure.field === 'client') return false
  if (failure.code === 'UNSUPPORTED') return true
  return next === '3' && (failure.code === 'NOT_FOUND' || failure.code === 'UNAVAILABLE' || failure.code === 'DENIED')
}
