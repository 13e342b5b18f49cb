/**
 * `volbridge flex-install` and `flex-uninstall`: this binary as a Flex driver of the node's kubelet.
 *
 * Owns what is checked before, the order over several drivers, and the words for what stands in the way. Does not know
 * mounts: what still lives is given to it.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, lstatSync, openSync } from 'node:fs'
import path from 'node:path'
import { pause } from '../../base/deadline.ts'
import { VolumeError, messageOf } from '../../base/errors.ts'
import { RootFolder, withRootFolder } from '../../host/root-folder.ts'
import { byDescriptor } from '../../host/trust.ts'
import { isOurs, placeDriver, removeDriver, removeLeftOvers, type Deed, type Way } from './driver-files.ts'
import { kernelDriverOf, parseFlexDriverName, type DriverName } from './driver-name.ts'
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

/** The descriptor that the trial has the file as. */
const trialFd = 3

/**
 * Runs the very file that was written, whatever its name leads to by now. Only where it will run, a trial says
 * something: a container's libraries are not the node's.
 */
function tryOut (file: number, name: string): void {
  const ran = spawnSync(byDescriptor(trialFd), ['init'], {
    argv0: name, env: {}, encoding: 'utf8', timeout: trialMs, stdio: ['ignore', 'pipe', 'pipe', file]
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
    if (error instanceof VolumeError && error.field !== undefined) throw error
    if (error instanceof VolumeError) {
      throw new VolumeError(error.code, `plugin folder ${folder}: ${error.message}`, {
        field: '--plugin-dir', cause: error
      })
    }
    const code = (error as NodeJS.ErrnoException).code ?? ''
    throw new VolumeError(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'EXHAUSTED' : 'DENIED',
      `plugin folder ${folder}: ${messageOf(error).replaceAll(/\/proc\/self\/fd\/\d+\//g, '')}`,
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

interface Plan {
  readonly folder: PluginFolder
  readonly drivers: readonly DriverName[]
}

function planOf ({ pluginDir, hostRoot, driver }: DriverOptions): Plan {
  const drivers = [...new Map(driver.map((text) => [text, parseFlexDriverName(text)])).values()]
  requireHostRoot(hostRoot)
  return { folder: choosePluginFolder(hostRoot, pluginDir), drivers }
}

/** The node's folder, through the node's own links. Undefined when it is not there and is not to be made. */
function openPlugins ({ folder }: Plan, hostRoot: string, make: number | undefined): RootFolder | undefined {
  return withRootFolder(RootFolder.openBase(hostRoot), (base) => RootFolder.openIfThere(folder.path, { base, make }))
}

function openSource (source: string): { readonly fd: number, close: () => void } {
  const fd = openSync(source, 'r')
  return { fd, close: () => { closeSync(fd) } }
}

function placeAll (plan: Plan, source: number, hostRoot: string): readonly InstalledDriver[] {
  const { folder, drivers } = plan
  // kubelet makes it at its start; an installer may come first.
  const plugins = told(folder.path, () => openPlugins(plan, hostRoot, 0o755))
  if (plugins === undefined) {
    throw new VolumeError('NOT_FOUND', `plugin folder ${folder.path} was removed meanwhile`, {
      remedy: 'repeat the call'
    })
  }
  return withRootFolder(plugins, () =>
    drivers.map((driver, at) =>
      told(folder.path, (): InstalledDriver => {
        removeLeftOvers(plugins)
        const { deed, way } = placeDriver({
          source, twin: at === 0 ? undefined : drivers[0], plugins, driver,
          tryOut: hostRoot === '/' ? tryOut : () => undefined
        })
        return { driver: driver.name, path: path.posix.join(folder.path, driver.folder, driver.file), deed, way }
      })
    ))
}

/** `source` is the packed binary. @throws VolumeError saying what stands in the way; drivers before it in the list are
 * in place then. */
export function installDrivers (source: string, options: DriverOptions): Installation {
  const plan = planOf(options)
  requireFloor(options.hostRoot)
  const { fd, close } = openSource(source)
  try {
    return { folder: plan.folder, drivers: placeAll(plan, fd, options.hostRoot) }
  } finally {
    close()
  }
}

function removeAll ({ folder, drivers }: Plan, plugins: RootFolder | undefined): readonly InstalledDriver[] {
  const beside = drivers.map(({ name }) => kernelDriverOf(name)).filter((name) =>
    drivers.every((driver) => driver.name !== name)
  ).map(parseFlexDriverName).filter((driver) =>
    plugins !== undefined && told(folder.path, () => isOurs(plugins, driver))
  )
  return [...drivers, ...beside].map((driver) =>
    told(folder.path, (): InstalledDriver => {
      const removed = plugins !== undefined && removeDriver(plugins, driver)
      return {
        driver: driver.name, path: path.posix.join(folder.path, driver.folder),
        deed: removed ? 'removed' : 'not installed', way: undefined
      }
    })
  )
}

export function uninstallDrivers (options: DriverOptions): Installation {
  const plan = planOf(options)
  const plugins = told(plan.folder.path, () => openPlugins(plan, options.hostRoot, undefined))
  try {
    return { folder: plan.folder, drivers: removeAll(plan, plugins) }
  } finally {
    plugins?.close()
  }
}

/** Changes when somebody replaces a driver or kubelet looks elsewhere: cheap enough for every round. Undefined when a
 * driver is missing. */
function stateOf ({ folder, drivers }: Installation, hostRoot: string): string | undefined {
  const facts = drivers.map(({ path: file }) => lstatSync(onHost(hostRoot, file), { throwIfNoEntry: false }))
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
