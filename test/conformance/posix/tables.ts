/** Every table of rules, in the order in which they are run. Owns no rule. */
import type { Case } from './judge.ts'
import { dataRules } from './rules/data.ts'
import { folderRules } from './rules/folders.ts'
import { linkRules } from './rules/links.ts'
import { nodeRules } from './rules/nodes.ts'
import { openRules } from './rules/opening.ts'
import { permissionRules } from './rules/permissions.ts'
import { renameRules } from './rules/renaming.ts'
import { setIdRules } from './rules/set-id.ts'
import { timeRules } from './rules/times.ts'
import { unlinkRules } from './rules/unlinking.ts'

export const tables = {
  folders: folderRules,
  opening: openRules,
  links: linkRules,
  unlinking: unlinkRules,
  renaming: renameRules,
  nodes: nodeRules,
  permissions: permissionRules,
  'set-id': setIdRules,
  times: timeRules,
  data: dataRules
} as const satisfies Record<string, readonly Case[]>
