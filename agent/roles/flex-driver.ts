/**
 * `flex-install` and `flex-uninstall`, composed: this program as the source, the journal as the word on what still
 * lives.
 *
 * Owns what is printed where, and the end of `--watch`. Does not know kubelet or plugin folders.
 */
import { isSea } from 'node:sea'
import { VolumeError, messageOf } from '../base/errors.ts'
import type { FlexDriverOptions, FlexInstallOptions, Output } from '../cli/arguments.ts'
import { onHost } from '../cli/flex-driver/host-root.ts'
import { formatInstallation, installDrivers, uninstallDrivers, watchDrivers } from '../cli/flex-driver/install.ts'
import type { Places } from '../cli/places.ts'
import { HostCalls } from '../host/host-calls.ts'
import { Mounts } from '../host/mounts.ts'
import { readMountinfo, topMountAt } from '../host/mountinfo.ts'
import { RootFolder, withRootFolder } from '../host/root-folder.ts'
import { peekJournal } from '../volumes/records/journal.ts'
import { unprotect } from '../volumes/mount-point.ts'
import type { BindRecord } from '../volumes/records/records.ts'
import { NodeVolumeHost } from '../volumes/volume-host.ts'

/** The file that runs, wherever its name leads by now. */
const ownFile = '/proc/self/exe'

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

export async function runFlexInstall (options: FlexInstallOptions, output: Output): Promise<number> {
  if (!isSea()) {
    throw new VolumeError('UNSUPPORTED', 'flex-install installs the packed binary, and this runs from its sources', {
      remedy: 'run scripts/build, then dist/volbridge flex-install'
    })
  }
  const show = options.json ? json : formatInstallation
  const stop = new AbortController()
  if (options.watch !== undefined) {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { stop.abort() })
  }
  const installation = installDrivers(ownFile, options)
  output.out(show(installation))
  if (options.watch === undefined) return 0
  await watchDrivers(ownFile, options, installation, {
    signal: stop.signal, everyMs: options.watch * 1000,
    changed: (again) => { output.out(show(again)) },
    failed: (error) => { output.err(`volbridge: ${messageOf(error)}; trying again\n`) }
  })
  return 0
}

/** Nobody will make these folders plain again: kubelet's unmount does not reach us any more. */
async function makePlain (hostRoot: string, binds: readonly BindRecord[]): Promise<readonly string[]> {
  const guarded = binds.filter(({ protection }) => protection === 'immutable')
  if (guarded.length === 0) return []
  const host = new NodeVolumeHost(new Mounts(new HostCalls()))
  const failed = await Promise.all(guarded.map(async (bind) => {
    try {
      await unprotect(host, onHost(hostRoot, bind.resolved), bind)
      return []
    } catch (error) {
      return [messageOf(error)]
    }
  }))
  return failed.flat()
}

/** What the agent recorded, if root alone can have written it. @throws VolumeError DENIED */
async function flexBinds (hostRoot: string, stateDir: string): Promise<readonly BindRecord[]> {
  const journal = withRootFolder(
    RootFolder.openBase(hostRoot), (base) => RootFolder.openIfThere(`${stateDir}/journal`, { base })
  )
  try {
    const records = journal === undefined ? [] : await peekJournal(journal.here)
    return records.filter((record) => record.kind === 'bind').filter(({ door }) => door === 'flex')
  } finally {
    journal?.close()
  }
}

/** Folders of pods that are still mounted through Flex. kubelet cannot unmount them without the driver. */
async function liveTargets (hostRoot: string, binds: readonly BindRecord[]): Promise<readonly string[]> {
  const mounts = await readMountinfo(hostRoot === '/' ? undefined : `${onHost(hostRoot, '/proc')}/1/mountinfo`)
  return binds.filter(({ resolved }) => topMountAt(mounts, resolved) !== undefined).map(({ path }) => path)
}

export async function runFlexUninstall (
  options: FlexDriverOptions,
  { stateDir }: Places,
  output: Output
): Promise<number> {
  const binds = await flexBinds(options.hostRoot, stateDir)
  const removed = uninstallDrivers(options)
  const live = await liveTargets(options.hostRoot, binds)
  const failed = await makePlain(options.hostRoot, binds)
  for (const problem of failed) output.err(`volbridge: ${problem}\n`)
  if (options.json) {
    output.out(json({ ...removed, live }))
    return failed.length === 0 ? 0 : 1
  }
  output.out(formatInstallation(removed))
  if (live.length > 0) {
    output.out(
      `${live.length} still mounted:\n${live.map((target) => `  ${target}\n`).join('')}` +
        'They work on. kubelet cannot unmount them without the driver: install it again and delete their pods first, or `volbridge unmount --force` each.\n'
    )
  }
  return failed.length === 0 ? 0 : 1
}
