/**
 * Who may do what, asked of objects that are there: every user, every object, every way to ask. Owns the objects and
 * the questions. Knows no right answer: that is what the kernel's client says on the same server.
 */
import type { Case } from '../posix/judge.ts'

const users = ['root', 'owner', 'member', 'other'] as const

/** Name → owner, group, mode. Folders end with a slash and hold a file `in`. */
const objects = {
  'own-600': [2001, 2001, '600'],
  'own-644': [2001, 2001, '644'],
  'own-000': [2001, 2001, '000'],
  'own-200': [2001, 2001, '200'],
  'own-755': [2001, 2001, '755'],
  'group-060': [2001, 3000, '060'],
  'group-640': [0, 3000, '640'],
  'group-664': [2001, 3000, '664'],
  'all-666': [0, 0, '666'],
  'root-600': [0, 0, '600'],
  'folder-700/': [2001, 2001, '700'],
  'folder-755/': [2001, 2001, '755'],
  'folder-711/': [2001, 2001, '711'],
  'folder-744/': [2001, 2001, '744'],
  'folder-770/': [2001, 3000, '770'],
  'folder-777/': [0, 0, '777'],
  'folder-1777/': [0, 0, '1777'],
  'folder-2775/': [2001, 3000, '2775']
} as const satisfies Record<string, readonly [number, number, string]>

/** A shell script that makes them in its working folder. */
export const prepareObjects = Object.entries(objects).flatMap(([name, [uid, gid, mode]]) => {
  const file = name.replace(/\/$/, '')
  return [
    name === file ? `echo content > ${file}` : `mkdir ${file}; echo content > ${file}/in; chmod 644 ${file}/in`,
    `chown ${uid}:${gid} ${file}`, `chmod ${mode} ${file}`
  ]
}).join('\n')

const questions = (file: string, isFolder: boolean): readonly string[] => [
  ...['r', 'w', 'x', 'rw', ''].map((mode) => `access ${file} ${mode === '' ? '-' : mode}`), `lstat ${file}`,
  ...isFolder
    ? [
      `cd ${file}`, 'cd ..', `list ${file}`, `lstat ${file}/in`, `get ${file}/in`, `lstat ${file}/none`,
      `access ${file}/in r`
    ]
    : [`get ${file}`, `sized ${file}`]
]

/** What may change something, each in an order that a second mount of the same objects repeats. */
const deeds = (file: string, isFolder: boolean, user: string): readonly string[] =>
  isFolder
    ? [
      `touch ${file}/${user} 640`, `mkdir ${file}/${user}-d 750`, `lstat ${file}/${user}`, `lstat ${file}/${user}-d`,
      `add ${file}/${user} more`, `link ${file}/in ${file}/${user}-l`, `symlink in ${file}/${user}-s`,
      `mkfifo ${file}/${user}-p 600`, `rename ${file}/${user} ${file}/${user}-r`, `unlink ${file}/${user}-l`,
      `rmdir ${file}/${user}-d`, `unlink ${file}/root-r`, `utimesnull ${file}`, `statfs ${file}`
    ]
    : [
      `add ${file} ${user}`, `truncate ${file} 3`, `utimesnull ${file}`, `utimens ${file} 1000000 2000000`,
      `lstat ${file}`
    ]

const owners = (file: string): readonly string[] => [
  `chmod ${file} 0750`, `lstat ${file}`, `chown ${file} -1 3000`, `chown ${file} 2002 -1`, `lstat ${file}`
]

const entries = Object.keys(objects).map((name) => ({ file: name.replace(/\/$/, ''), isFolder: name.endsWith('/') }))

/** Run one after the other on the same objects; `prepareObjects` has been there first. */
export const rightsRules: readonly Case[] = entries.map(({ file, isFolder }) => ({
  title: `who may do what with ${file}`,
  lines: [
    ...users.flatMap((user) => questions(file, isFolder).map((call) => `${user} ${call}`)),
    ...users.flatMap((user) => deeds(file, isFolder, user).map((call) => `${user} ${call}`)),
    ...users.flatMap((user) => questions(file, isFolder).slice(0, 6).map((call) => `${user} ${call}`)),
    ...[...users].reverse().flatMap((user) => owners(file).map((call) => `${user} ${call}`))
  ]
}))
