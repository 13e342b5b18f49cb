// Tests that need root, /dev/fuse or a real NFS server. One file at a time in a process of its own: they mount, change
// credentials and send signals. Each worker removes what it made; scripts/test sweeps up after one that was killed.
export default {
  extensions: ['ts'],
  files: ['test/{semantics,model,faults,conformance,fuzz,cluster}/**/*.test.ts'],
  nodeArguments: ['--no-warnings=ExperimentalWarning'],
  workerThreads: false,
  concurrency: 1,
  serial: true,
  failWithoutAssertions: true,
  // A hang, not a figure: nothing here should be silent for so long.
  timeout: '5m'
}
