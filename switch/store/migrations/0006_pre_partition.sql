-- Several workers start at once and make the same partitions. An advisory lock does not make a session look at the
-- catalogue again, so who waited for it may still believe that a partition is missing: the error is the answer.

CREATE OR REPLACE FUNCTION switch.ensure_partition(day integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name text := 'payment_event_' || day;
BEGIN
    IF to_regclass('switch.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('switch.ensure_partition'));
    BEGIN
        EXECUTE format('CREATE TABLE switch.%I (LIKE switch.payment_event INCLUDING ALL)', name);
    EXCEPTION WHEN duplicate_table THEN
        RETURN false;
    END;
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON switch.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION switch.refuse_change()', name);
    EXECUTE format('ALTER TABLE switch.payment_event ATTACH PARTITION switch.%I FOR VALUES FROM (%s) TO (%s)',
                   name, day, day + 1);
    RETURN true;
END $$;
