/**
 * `volbridge flex-install` and `flex-uninstall`: this binary as a Flex driver of the node's kubelet.
 *
 * Owns what is checked before, the order over several drivers, and the words for what stands in the way. Does not know
 * mounts: what still lives is given to it.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { pause } from '../../base/deadline.ts'
import { VolumeError, messageOf } from '../../base/errors.ts'
import {
  driverFile,
  factsOf,
  isOurs,
  placeDriver,
  removeDriver,
  removeLeftOvers,
  type Deed,
  type Way
} from './driver-files.ts'
import { kernelDriverOf, parseDriverName, type DriverName } from './driver-name.ts'
import { requireFloor } from './floor.ts'
import { onHost } from './host-root.ts'
import { choosePluginFolder, type PluginFolder } from './plugin-folder.ts'

export interface DriverOptions {
  readonly pluginDir?: string
  readonly hostRoot: string
  readonly driver: readonly string[]
}

export interface InstalledDriver {
  readonly driver: string
  readonly path: string
  readonly deed: Deed | 'removed' | 'not installed'
  readonly way: Way | undefined
}
export interface Installation {
  readonly folder: PluginFolder
  readonly drivers: readonly InstalledDriver[]
}

const trialMs = 20_000

/** Only where the file will run, a trial says something: a container's libraries are not the node's. */
function tryOut (file: string): void {
  const ran = spawnSync(file, ['init'], {
    env: {}, encoding: 'utf8', timeout: trialMs, stdio: ['ignore', 'pipe', 'pipe']
  })
  if (ran.status === 0 && /"status":"Success"/.test(ran.stdout)) return
  throw new VolumeError(
    'UNSUPPORTED',
    `the driver does not run on this node: ${ran.error?.message ?? `${ran.stderr}${ran.stdout}`.trim().slice(0, 500)}`,
    {
      remedy: 'run `volbridge doctor`; is the folder mounted noexec?'
    }
  )
}

const remedies: Readonly<Record<string, string>> = {
  EROFS:
    'it is read-only: give kubelet a writable --volume-plugin-dir (volumePluginDir), for instance /var/lib/kubelet/volumeplugins, and restart it',
  EACCES: 'run as root; in a container mount the node\'s folder writable',
  EPERM: 'run as root; is the folder immutable (lsattr -d)?',
  ENOSPC: 'make room: the driver needs about 120 MB',
  EDQUOT: 'make room: the driver needs about 120 MB'
}

/** @throws VolumeError with the folder and what to do. */
function told<T> (folder: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof VolumeError) throw error
    const code = (error as NodeJS.ErrnoException).code ?? ''
    throw new VolumeError(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'EXHAUSTED' : 'DENIED',
      `plugin folder ${folder}: ${messageOf(error)}`,
      {
        field: '--plugin-dir', cause: error, ...remedies[code] === undefined ? {} : { remedy: remedies[code] }
      }
    )
  }
}

/** A node's root that is not where we were told would be filled with folders nobody looks into. */
function requireHostRoot (hostRoot: string): void {
  if (
    hostRoot === '/' ||
    (existsSync(`${hostRoot}/etc`) && (existsSync(`${hostRoot}/usr`) || existsSync(`${hostRoot}/var`)))
  ) return
  throw new VolumeError(
    'INVALID',
    `--host-root: ${JSON.stringify(hostRoot)} is no node's root folder (it has no etc, usr or var)`,
    {
      field: '--host-root', remedy: 'mount the node\'s / there, as deploy/flex does'
    }
  )
}

interface Plan { readonly folder: PluginFolder, readonly plugins: string, readonly drivers: readonly DriverName[] }

function planOf ({ pluginDir, hostRoot, driver }: DriverOptions): Plan {
  const drivers = [...new Map(driver.map((text) => [text, parseDriverName(text)])).values()]
  requireHostRoot(hostRoot)
  const folder = choosePluginFolder(hostRoot, pluginDir)
  return { folder, drivers, plugins: onHost(hostRoot, folder.path) }
}

/** `source` is the packed binary. @throws VolumeError saying what stands in the way; drivers before it in the list are
 * in place then. */
export function installDrivers (source: string, options: DriverOptions): Installation {
  const { folder, plugins, drivers } = planOf(options)
  requireFloor(options.hostRoot)
  let twin: string | undefined
  const done = drivers.map((driver) =>
    told(folder.path, (): InstalledDriver => {
      // kubelet makes it at its start; an installer may come first.
      mkdirSync(plugins, { recursive: true, mode: 0o755 })
      removeLeftOvers(plugins)
      const { deed, way } = placeDriver({
        source, twin, plugins, driver, tryOut: options.hostRoot === '/' ? tryOut : () => undefined
      })
      twin ??= driverFile(plugins, driver)
      return { driver: driver.name, path: path.posix.join(folder.path, driver.folder, driver.file), deed, way }
    })
  )
  return { folder, drivers: done }
}

export function uninstallDrivers (options: DriverOptions): Installation {
  const { folder, plugins, drivers } = planOf(options)
  const beside = drivers.map(({ name }) => kernelDriverOf(name)).filter((name) =>
    drivers.every((driver) => driver.name !== name)
  ).map(parseDriverName)
  const done = [...drivers, ...beside.filter((driver) => isOurs(driverFile(plugins, driver)))].map((driver) =>
    told(folder.path, (): InstalledDriver => {
      const removed = existsSync(plugins) && removeDriver(plugins, driver)
      return {
        driver: driver.name, path: path.posix.join(folder.path, driver.folder),
        deed: removed ? 'removed' : 'not installed', way: undefined
      }
    })
  )
  return { folder, drivers: done }
}

/** Changes when somebody replaces a driver or kubelet looks elsewhere: cheap enough for every round. Undefined when a
 * driver is missing. */
function stateOf ({ folder, drivers }: Installation, hostRoot: string): string | undefined {
  const facts = drivers.map(({ path: file }) => factsOf(onHost(hostRoot, file)))
  if (facts.includes(undefined)) return undefined
  return [folder.path, ...facts.map((file) => `${file?.ino} ${file?.size} ${file?.mtimeMs} ${file?.ctimeMs}`)].join(
    '\n'
  )
}

export interface Watching {
  readonly signal: AbortSignal
  readonly everyMs: number
  readonly changed: (installation: Installation) => void
  readonly failed: (error: unknown) => void
}

/** Keeps the drivers in place until told to end, which leaves them: pods need them longer than the installer's pod
 * lives. */
export async function watchDrivers (
  source: string,
  options: DriverOptions,
  first: Installation,
  { signal, everyMs, changed, failed }: Watching
): Promise<void> {
  let last = first
  let state = stateOf(first, options.hostRoot)
  while (!signal.aborted) {
    await pause(everyMs, signal)
    if (signal.aborted) return
    try {
      const moved = choosePluginFolder(options.hostRoot, options.pluginDir).path !== last.folder.path
      const now = stateOf(last, options.hostRoot)
      // A driver that is missing is no state to stay in, also when it went before the first look.
      if (!moved && now !== undefined && now === state) continue
      last = installDrivers(source, options)
      state = stateOf(last, options.hostRoot)
      if (last.drivers.some(({ deed }) => deed !== 'unchanged')) changed(last)
    } catch (error) {
      failed(error)
    }
  }
}

const deeds: Readonly<Record<InstalledDriver['deed'], string>> = {
  installed: 'installed', upgraded: 'upgraded; mounts that are up go on with the version before',
  unchanged: 'is in place already', removed: 'removed', 'not installed': 'is not installed'
}

export function formatInstallation ({ folder, drivers }: Installation): string {
  return [
    `plugin folder ${folder.path} (${folder.reason})`,
    ...drivers.map(({ driver, path: file, deed, way }) =>
      `${driver}: ${deeds[deed]}${way === undefined ? '' : ` (${way})`}: ${file}`
    ),
    ''
  ].join('\n')
}
