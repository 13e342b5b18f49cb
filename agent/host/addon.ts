/**
 * The native addon, typed. Owns loading it; does not know what its functions mean (`fuse-device.ts` and the host calls do).
 * Loaded lazily, so that a process that needs no system call beyond Node's (a Flex `init`) never touches the file.
 */
import { createRequire } from 'node:module'
import type { FuseAddon } from './fuse-device.ts'

export interface Addon extends FuseAddon {}

/** Loads the addon built by `scripts/build-addon`. Node caches it: the second call is free. */
export function loadAddon (path = new URL('../../build/Release/volbridge.node', import.meta.url).pathname): Addon {
  return createRequire(import.meta.url)(path) as Addon
}
