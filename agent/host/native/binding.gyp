{
  'targets': [
    {
      'target_name': 'volbridge',
      'sources': ['addon.c', 'fuse_device.c', 'host_call.c', 'descriptors.c', 'launch.c', 'common.c', 'loop_part.c', 'busy_poll.c', 'cpu_latency.c'],
      'defines': ['NAPI_VERSION=9'],
      'cflags_c': ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter', '-O2', '-fvisibility=hidden', '-fstack-protector-strong'],
      'ldflags': ['-Wl,-z,relro,-z,now', '-Wl,--as-needed']
    }
  ]
}
