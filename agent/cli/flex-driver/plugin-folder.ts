/**
 * Which folder kubelet looks into for Flex drivers.
 *
 * Owns the order of evidence: what was asked for, a running kubelet, places known of distributions. Does not guess: two
 * candidates and no kubelet to ask are an error that says so.
 */
import { existsSync } from 'node:fs'
import { parseAbsolutePath } from '../../base/brands.ts'
import { VolumeError } from '../../base/errors.ts'
import { onHost } from './host-root.ts'
import { defaultPluginDir } from './kubelet-arguments.ts'
import { findKubelets, showDoubted, type SeenKubelets } from './kubelets.ts'

export interface PluginFolder {
  /** As kubelet spells it. */
  readonly path: string
  /** Why this one, for people. */
  readonly reason: string
}

/** Where distributions have it, apart from kubelet's own default. Only those that exist are considered. */
export const knownPluginDirs: ReadonlyMap<string, string> = new Map([
  [defaultPluginDir, 'kubelet\'s default, kubeadm'],
  ['/var/lib/kubelet/volumeplugins', 'k3s, RKE, RKE2'],
  ['/var/lib/kubelet/volume-plugins', 'CoreOS, kubespray'],
  ['/opt/libexec/kubernetes/kubelet-plugins/volume/exec', 'Flatcar, CoreOS'],
  ['/var/libexec/kubernetes/kubelet-plugins/volume/exec', 'nodes with a read-only /usr'],
  ['/etc/kubernetes/kubelet-plugins/volume/exec', 'OpenShift'],
  ['/etc/kubernetes/volumeplugins', 'AKS'],
  ['/home/kubernetes/flexvolume', 'GKE'],
  ['/usr/libexec/k0s/kubelet-plugins/volume/exec', 'k0s']
])

const remedy = 'give kubelet\'s --volume-plugin-dir (or volumePluginDir of its configuration) with --plugin-dir'

/**
 * What believed kubelets were told. @throws VolumeError PRECONDITION when one was told something that root must not
 * read.
 */
function toldFolders ({ kubelets }: SeenKubelets): readonly PluginFolder[] {
  return kubelets.map(({ pid, told }) => {
    if ('path' in told) return { path: told.path, reason: `${told.reason} of process ${pid}` }
    throw new VolumeError(
      'PRECONDITION',
      `plugin folder: what kubelet (process ${pid}) was told cannot be read: ${told.problem}`,
      {
        field: '--plugin-dir', remedy
      }
    )
  })
}

/** @throws VolumeError NOT_FOUND, CONFLICT or PRECONDITION when there is no one answer. */
export function choosePluginFolder (
  root: string,
  asked: string | undefined,
  seen?: SeenKubelets
): PluginFolder {
  if (asked !== undefined) return { path: parseAbsolutePath(asked, '--plugin-dir'), reason: '--plugin-dir' }
  const all = seen ?? findKubelets(root)
  const told = [...new Map(toldFolders(all).map((folder) => [folder.path, folder])).values()]
  const found = told.length > 0
    ? told
    : [...knownPluginDirs].filter(([dir]) => existsSync(onHost(root, dir))).map(([dir, who]) => ({
      path: dir, reason: `it exists (${who}); no kubelet runs that could be asked`
    }))
  const [only, second] = found
  if (only !== undefined && second === undefined) {
    return { ...only, path: parseAbsolutePath(only.path, 'plugin folder') }
  }
  const doubted = showDoubted(all)
  const aside = doubted === '' ? '' : `; ${doubted}`
  if (only === undefined) {
    throw new VolumeError(
      'NOT_FOUND',
      `plugin folder: no kubelet runs on this node and none of the known folders exists${aside}`,
      { field: '--plugin-dir', remedy }
    )
  }
  throw new VolumeError(
    'CONFLICT',
    `plugin folder: there are several: ${found.map(({ path, reason }) => `${path} (${reason})`).join(', ')}${aside}`,
    { field: '--plugin-dir', remedy }
  )
}
