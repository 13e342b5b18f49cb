/**
 * Loaded before anything else (`--import`) by scripts/testing/sanitized: the addon that tests get is the one built with
 * sanitizers. Owns only that it takes the place of a packed one, for which product code asks already.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { addonSourceKey, type AddonSource } from '../../agent/host/addon-location.ts'

const folder = path.resolve(import.meta.dirname, '../../build/Sanitized')
const file = path.join(folder, 'volbridge.node')
const source: AddonSource = {
  bytes: () => readFileSync(file), folders: [folder], loaded: createRequire(import.meta.url)(file)
}
Object.assign(globalThis, { [addonSourceKey]: source })
