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
import { defaultPluginDir, findKubelets, type KubeletFacts } from './kubelets.ts'

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

/** @throws VolumeError NOT_FOUND or CONFLICT when there is no one answer. */
export function choosePluginFolder (
  root: string,
  asked: string | undefined,
  kubelets: readonly KubeletFacts[] = findKubelets(root)
): PluginFolder {
  if (asked !== undefined) return { path: parseAbsolutePath(asked, '--plugin-dir'), reason: '--plugin-dir' }
  const told = [...new Map(kubelets.map(({ pluginDir, reason }) => [pluginDir, { path: pluginDir, reason }])).values()]
  const found = told.length > 0
    ? told
    : [...knownPluginDirs].filter(([dir]) => existsSync(onHost(root, dir))).map(([dir, who]) => ({
      path: dir, reason: `it exists (${who}); no kubelet runs that could be asked`
    }))
  const [only, second] = found
  if (only === undefined) {
    throw new VolumeError(
      'NOT_FOUND',
      'plugin folder: no kubelet runs on this node and none of the known folders exists',
      { field: '--plugin-dir', remedy }
    )
  }
  if (second !== undefined) {
    throw new VolumeError(
      'CONFLICT',
      `plugin folder: there are several: ${found.map(({ path, reason }) => `${path} (${reason})`).join(', ')}`,
      { field: '--plugin-dir', remedy }
    )
  }
  return only
}
