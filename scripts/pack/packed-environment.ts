/**
 * First module of the packed binary: hands the native addon, which it carries as an asset, to whoever loads it later.
 *
 * Owns the folders that are tried for unpacking, most private first. Does not unpack: a Flex `init` must never pay for
 * that. The state folder is read from the command line here because the addon is loaded before and after the arguments
 * are parsed, by every role.
 */
import path from 'node:path'
import process from 'node:process'
import { getRawAsset, isSea } from 'node:sea'
import { addonSourceKey, type AddonSource } from '../../agent/host/addon-location.ts'

const defaultStateFolder = '/var/lib/volbridge'

/** The value of `--name VALUE` or `--name=VALUE`. */
export function argumentOf (name: string, args: readonly string[]): string | undefined {
  const index = args.findIndex((arg) => arg === name || arg.startsWith(`${name}=`))
  const found = args[index]
  if (found === undefined) return undefined
  return found === name ? args[index + 1] : found.slice(name.length + 1)
}

if (isSea()) {
  const source: AddonSource = {
    bytes: () => new Uint8Array(getRawAsset('volbridge.node')),
    folders: [path.join(argumentOf('--state-dir', process.argv) ?? defaultStateFolder, 'addon'), '/run/volbridge/addon']
  }
  Object.assign(globalThis, { [addonSourceKey]: source })
}
