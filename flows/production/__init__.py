"""A whole production on this machine: what `python -m flows up` starts, keeps running, and `down` ends.

In the order in which they are used: `rise` brings everything up; `plan` decides ports, credentials and databases, and keeps
them; `databases` prepares those that we run; `parts` says how each part is started; `supervisor` is the one process that
owns the parts and brings back what dies; `worker` begins again the runs that died with the worker before it, and works, as a
`process_worker`; `contact` finds, starts and ends the supervisor; `checks` asks each part for an answer; `install` makes the
work pool, the deployments and the automations; `trial` puts the server to the test; `drain` lets runs end.

Everything lies in one folder, the platform's user data folder with `up` behind it:

- `plan.json`: what was decided, with the passwords (mode 0600, as every file here);
- `supervisor.lock`: held by the supervisor as long as it lives, with its process id inside. The kernel lets go of it however
  the supervisor died, so that neither a SIGKILL nor a reboot leaves anything that looks alive, and no process id is believed
  without it;
- `state.json`: what the supervisor says of its parts; true only while the lock is held;
- `nursery.sock`: where runs and jobs at a desk ask for a process (`tasks.nursery`);
- `prefect/`, `postgres/`, `redis/`: their data; `logs/`: one log a part. The embedded store's folder is beside this one.
"""
