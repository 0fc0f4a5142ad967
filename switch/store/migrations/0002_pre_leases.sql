-- Several workers write to one database: each open payment has one owner, and an owner's lease can end.
-- Runs in one transaction.

ALTER TABLE switch.worker
    ADD COLUMN instance   text NOT NULL DEFAULT '',
    ADD COLUMN proof      text NOT NULL DEFAULT '',
    ADD COLUMN lease_s    double precision NOT NULL DEFAULT 0 CHECK (lease_s >= 0),
    ADD COLUMN renewed_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN ended_at   timestamptz,
    ADD COLUMN ended_by   integer,
    ADD COLUMN has_heirs  boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT ended_by_somebody CHECK (ended_at IS NULL OR ended_by IS NOT NULL);
COMMENT ON COLUMN switch.worker.instance IS 'name of the switch in its configuration: [worker] instance';
COMMENT ON COLUMN switch.worker.proof IS
    'which locked file proves that this process lives; whoever holds that lock now knows that it is dead. Empty: none';
COMMENT ON COLUMN switch.worker.lease_s IS 'seconds after renewed_at from which on another worker may end this one; its margin included';
COMMENT ON COLUMN switch.worker.ended_at IS 'it writes nothing more, for sure: its session is gone, and it can open no other one';
COMMENT ON COLUMN switch.worker.ended_by IS 'epoch of the worker that decided to end it; its own epoch when it stopped by itself. NULL: in office';
COMMENT ON COLUMN switch.worker.has_heirs IS 'ended, and none of its payments is left to take over';

ALTER TABLE switch.claim
    ADD COLUMN owner  integer,
    ADD COLUMN closed text;
COMMENT ON COLUMN switch.claim.owner IS 'only with kind open: epoch of the worker that drives the payment';
COMMENT ON COLUMN switch.claim.closed IS
    'only with kind kiosk and payment_id 0: what the kiosk was told instead of a payment, so that there will never be one under this key';

-- Whoever wrote before this migration has stopped, or it could not run.
UPDATE switch.worker SET ended_at = now(), ended_by = epoch;
UPDATE switch.claim SET owner = coalesce((SELECT max(epoch) FROM switch.worker), 0) WHERE kind = 'open';
ALTER TABLE switch.claim ADD CONSTRAINT open_has_owner CHECK ((kind = 'open') = (owner IS NOT NULL)),
                         ADD CONSTRAINT closed_is_nobodys CHECK ((payment_id = 0) = (closed IS NOT NULL));
-- Few rows: whoever has no open payments left is not in it.
CREATE INDEX worker_without_heirs ON switch.worker (epoch) WHERE ended_at IS NOT NULL AND NOT has_heirs;
CREATE INDEX claim_owner ON switch.claim (owner, payment_id) WHERE kind = 'open';
