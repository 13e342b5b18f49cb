/**
 * Where our client answers other than the kernel's, and why. Owns the list, each entry as narrow as it can be said: a
 * difference that is in none of them is a bug, and so is an entry that nothing shows any more. SEMANTICS.md says to
 * users what follows from them.
 */
import type { Compared } from './compare.ts'

export interface Known {
  readonly reason: string
  /** Absent: everywhere. */
  readonly world?: string
  readonly rule?: RegExp
  readonly call: RegExp
  /** `what the kernel's client says → what ours says`, words that both say left out. */
  readonly difference: RegExp
}

const ownersTime = /^\w+ utimens f (now omit|omit now)$/

export const known: readonly Known[] = [
  {
    reason:
      'fstat(2) of a file whose last name is gone says so; the kernel counts the name that it has hidden it under',
    call: /^\w+ fstat \$\w+$/, difference: /^nlink=1 → nlink=0$/
  },
  {
    reason: 'with a second link a removed file needs no hidden name; the kernel hides it all the same',
    rule: /^an open file with another name keeps it when one goes$/, call: /^\w+ (fstat \$f|list \.)$/,
    difference: /^(nlink=2 → nlink=1|\.nfs → )$/
  },
  {
    reason: 'a removed folder that is open is still a folder for fstat(2), as on a local disk',
    rule: /^a removed folder that is somebody’s cwd or open stays/, call: /^owner fstat \$d$/,
    difference: /^ESTALE → ok type=folder .* nlink=0 /
  },
  {
    reason:
      'a small write is told at fsync or close that it was refused; the kernel reads the page first, and is refused that',
    rule: /^a descriptor whose opener the file’s mode shuts out/, call: /^other (pwrite \$f J 0|fsync \$f)$/,
    difference: /^(EACCES → ok 1|ok → EACCES)$/
  },
  {
    reason:
      'FUSE lets the kernel open a FIFO without asking: who may do nothing with it is shown an empty file instead',
    rule: /^a fifo between two opens is the kernel’s$/, call: /^other lstat p$/, difference: /^type=fifo → type=file$/
  },
  {
    reason: 'a rename over an open file that may not be hidden says what the server says; the kernel says ETXTBSY',
    rule: /^a rename that fails leaves the open target as it was$/, call: /^owner rename f d\/g$/,
    difference: /^ETXTBSY → EACCES$/
  },
  {
    reason:
      'set-id bits go when the owner truncates, as on a local disk; nfs-ganesha keeps them and the kernel leaves it to the server',
    rule: /^truncate by the owner drops them$/, call: /^root lstat f$/, difference: /^mode=6777 → mode=0777$/
  },
  {
    reason:
      'setting one time to now and leaving the other is the owner’s, as on a local disk; the kernel leaves it to the server',
    rule: /^setting given times is the owner’s and root’s/, call: ownersTime, difference: /^ok → EPERM$/
  },
  {
    reason: 'times that NFSv3 cannot carry are refused; the kernel sends their lower 32 bits',
    rule: /^seconds between 2038 and 2106 are kept/, call: /^owner utimens f (4294967296 4294967296|-1 -1)$/,
    difference: /^ok → EINVAL$/
  },
  {
    reason: 'a truncation to the same size moves mtime and ctime, as POSIX has it; the kernel does not send it',
    rule: /^truncate moves mtime and ctime, also to the same size/, call: /^root lstat f$/,
    difference: /^mtime kept, ctime kept → mtime later, ctime later$/
  },
  {
    reason:
      'beyond the largest file EFBIG is told by the write where that limit is known and else by fsync; the kernel’s pages wrap or wait',
    rule: /^a file larger than the server can have is EFBIG$/, call: /^owner (pwrite \$f x \d+|fsync \$f)$/,
    difference: /^(ok 1 → EFBIG|EFBIG → ok 1|ok → EFBIG)$/
  },
  {
    reason: 'no extended attributes: the kernel has a list of none, because it looks for ACLs by a protocol beside NFS',
    rule: /^what NFSv3 has no call for is refused$/, call: /^owner listxattr f$/, difference: /^ok 0 → EOPNOTSUPP$/
  },
  {
    reason:
      'the server judges in sticky folders too, and to it all are one user; the kernel compares numbers before it asks',
    world: 'an export that makes every user one', rule: /folder-1777$/, call: /^(member|other) (rename|rmdir) /,
    difference: /^EPERM → ok$/
  },
  {
    reason: 'and so there is less in there afterwards',
    world: 'an export that makes every user one', rule: /folder-1777$/, call: /^\w+ lstat folder-1777$/,
    difference: /^nlink=4 → nlink=2$/
  },
  {
    reason:
      'both times to now: the server grants it to its owner, who all are; the kernel asks for the right to write first',
    world: 'an export that makes every user one', rule: /(own-000|group-060)$/, call: /^(member|other) utimesnull /,
    difference: /^EACCES → ok$/
  },
  {
    reason: 'both times to now on a read-only export: the server’s reason, and not that of a question before it',
    world: 'a read-only export', call: /^\w+ utimesnull /, difference: /^EACCES → EROFS$/
  },
  {
    reason: 'whether a folder may be searched, and a name in a sticky one removed, the server says at the call itself',
    world: 'the scripted server',
    rule: /^a server that says no and does it all the same$/,
    call: /^other (lstat d\/f|unlink s\/m)$/,
    difference: /^(EACCES → ok type=file .*|EPERM → ok)$/
  },
  {
    reason:
      'a kind of object that the server does not make is EPERM, as mknod(2) says; the kernel lets an NFS error through',
    world: 'the scripted server', call: /^owner mknod k socket 0644$/, difference: /^EUNKNOWN → EPERM$/
  }
]

/** The words that only one of two answers has; both whole when they are of different kinds. */
export function differenceOf ({ kernel, ours }: Compared): string {
  const isAlike = kernel.startsWith('ok ') && ours.startsWith('ok ')
  if (!isAlike) return `${kernel} → ${ours}`
  const [before, after] = [kernel.split(' '), ours.split(' ')]
  const only = (words: readonly string[], others: readonly string[]): string =>
    words.filter((word) => !others.includes(word)).join(' ')
  return `${only(before, after)} → ${only(after, before)}`
}

const explains = (entry: Known, compared: Compared): boolean =>
  (entry.world === undefined || entry.world === compared.world) && (entry.rule?.test(compared.rule) ?? true) &&
  entry.call.test(compared.call) && entry.difference.test(differenceOf(compared))

export interface Verdict {
  readonly steps: number
  readonly unexplained: readonly Compared[]
  readonly explained: ReadonlyMap<Known, number>
}

export function judge (all: readonly Compared[]): Verdict {
  const different = all.filter(({ kernel, ours }) => kernel !== ours)
  const explained = new Map<Known, number>()
  const unexplained = different.filter((compared) => {
    const entry = known.find((each) => explains(each, compared))
    if (entry !== undefined) explained.set(entry, (explained.get(entry) ?? 0) + 1)
    return entry === undefined
  })
  return { steps: all.length, unexplained, explained }
}

/** For people: what was asked, and both answers. */
export const lineOf = (compared: Compared): string =>
  `${compared.world}: ${compared.rule}\n    ${compared.call}: ${differenceOf(compared).slice(0, 400)}`
