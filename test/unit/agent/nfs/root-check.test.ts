/** What is made of a root and of what its path leads to now, case by case. */
import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import { VolumeError } from '../../../../agent/base/errors.ts'
import type { Attributes, Found } from '../../../../agent/fs/backend.ts'
import { RootCheck } from '../../../../agent/nfs/root-check.ts'
import { handle } from './scripted.ts'

const object = (fsid: bigint, fileid: bigint): Attributes => ({ fsid, fileid } as Attributes)
const found = (name: string, fileid: bigint, fsid = 1n): Found => ({
  handle: handle(name), attributes: object(fsid, fileid)
})
const silence = new VolumeError('UNAVAILABLE', 'no answer')
const refusal = new VolumeError('DENIED', 'share: this node may not mount it')

interface Case {
  readonly now: Found | Error
  readonly own: Attributes | Errno
  readonly isCurrent: boolean
  readonly says: RegExp
}
const cases: Readonly<Record<string, Case>> = {
  'the same handle': { now: found('a', 2n), own: object(1n, 2n), isCurrent: true, says: /^$/ },
  'another handle of the same object': { now: found('b', 2n), own: object(1n, 2n), isCurrent: true, says: /^$/ },
  'another folder': { now: found('b', 3n), own: object(1n, 2n), isCurrent: false, says: /leads to another folder/ },
  'the same number in another file system': {
    now: found('b', 2n, 9n), own: object(1n, 2n), isCurrent: false, says: /another folder/
  },
  'another folder, and the old one is gone': {
    now: found('b', 3n), own: Errno.ESTALE, isCurrent: false, says: /another folder/
  },
  'no folder, and the old one is gone': {
    now: refusal, own: Errno.ESTALE, isCurrent: false, says: /no longer knows the volume's root/
  },
  'the same handle, which the server does not know': {
    now: found('a', 2n), own: Errno.ESTALE, isCurrent: false, says: /no longer knows/
  },
  'a refusal, and the old root answers': {
    now: refusal, own: object(1n, 2n), isCurrent: true, says: /may not mount it/
  },
  'silence': { now: silence, own: Errno.ETIMEDOUT, isCurrent: true, says: /^$/ },
  'another handle, and nothing is known of the old root': {
    now: found('b', 2n), own: Errno.EIO, isCurrent: true, says: /^$/
  }
}

for (const [name, { now, own, isCurrent, says }] of Object.entries(cases)) {
  test(`the path of a volume leads to: ${name}`, async (t) => {
    const find = async (): Promise<Found> => {
      if (now instanceof Error) throw now
      return now
    }
    const check = new RootCheck({ root: found('a', 2n), askRoot: async () => own, walkAgain: find, mountAgain: find })
    const verdict = await check.look()
    t.is(verdict.isCurrent, isCurrent)
    t.regex(verdict.reason, says)
    t.is(check.trouble, verdict.reason)
    await check.recheck()
    t.is(check.trouble, verdict.reason)
  })
}

test('pods that start at once ask the server once, and what was put back is no trouble any more', async (t) => {
  let asked = 0
  let now = found('b', 3n)
  const check = new RootCheck({
    root: found('a', 2n), askRoot: async () => object(1n, 2n), walkAgain: async () => now,
    mountAgain: async () => {
      asked++
      return now
    }
  })
  const verdicts = await Promise.all([check.look(), check.look(), check.look()])
  t.deepEqual(verdicts.map(({ isCurrent }) => isCurrent), [false, false, false])
  t.is(asked, 1)
  now = found('a', 2n)
  t.deepEqual(await check.look(), { isCurrent: true, reason: '' })
  t.is(check.trouble, '')
})
