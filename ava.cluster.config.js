// Tests on a real Kubernetes (scripts/kubernetes): root, nfs-ganesha, containerd, etcd, and Kubernetes built by scripts/setup.
import system from './ava.system.config.js'

export default { ...system, files: ['test/cluster/**/*.test.ts'] }
