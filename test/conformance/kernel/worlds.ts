/**
 * The servers on which both clients are compared, and what is asked on each. Owns the choice. Does not know how it is
 * run.
 */
import type { GaneshaOptions } from '../../peers/ganesha.ts'
import { rule, type Case } from '../posix/judge.ts'
import { tables } from '../posix/tables.ts'
import { rightsRules } from './rights.ts'

export interface WorldToCompare {
  readonly server: GaneshaOptions | 'scripted'
  readonly rules: readonly Case[]
}

/** Thousands of names and megabytes take minutes in a guest without hardware support; `crowds.test.ts` has them. */
const isCrowd = ({ lines }: Case): boolean =>
  lines.some((line) => /^\w+ (many \w+ \d{3,}|append|deep) ?|\{\d{7,}\*/.test(line))
const posix = (...names: readonly (keyof typeof tables)[]): readonly Case[] =>
  names.flatMap((name) => [...tables[name]]).filter((rule) => !isCrowd(rule))

/** The scripted server answers ACCESS by mode bits and then does whatever it is asked. */
const isAboutRights = ({ title }: Case): boolean => /permission|sticky|asks the folder|path errors/.test(title)
const grantingRule = rule('a server that says no and does it all the same', `
  owner mkdir d 0755
  owner touch d/f 0644
  owner chmod d 0644
  other access d x
  other lstat d/f
  root mkdir s 1777
  member touch s/m 0644
  other unlink s/m
`)

const squashed = ['  Anonymous_Uid = 2001;', '  Anonymous_Gid = 3000;']

export const worlds = {
  'a plain export': {
    server: {},
    rules: [...posix(...Object.keys(tables) as (keyof typeof tables)[]), ...rightsRules]
  },
  'an export that squashes root': {
    server: { squash: 'Root_Squash' },
    rules: [...rightsRules, ...posix('permissions')]
  },
  'an export that makes every user one': {
    server: { squash: 'All_Squash', exportLines: squashed },
    rules: [...rightsRules, ...posix('permissions')]
  },
  'a read-only export': { server: { accessType: 'RO' }, rules: rightsRules },
  'the scripted server': {
    server: 'scripted',
    rules: [grantingRule, ...posix('folders', 'links', 'unlinking', 'renaming').filter((rule) => !isAboutRights(rule))]
  }
} as const satisfies Record<string, WorldToCompare>
