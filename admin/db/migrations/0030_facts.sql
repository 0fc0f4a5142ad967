-- Payments as admin knows them: one row each, folded from the switch's feed. Runs in one transaction.
--
-- Everything here but the places can be made again from the feed: `gridswitch admin feed --again`.

-- ---------------------------------------------------------------------------------------------------- where a terminal stood
CREATE TABLE admin.kiosk_place (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal_id text NOT NULL,
    kiosk_id    bigint NOT NULL REFERENCES admin.kiosk (id),
    org_id      bigint NOT NULL REFERENCES admin.org (id),
    org_path    text NOT NULL,
    valid_from  timestamptz NOT NULL,
    valid_to    timestamptz NOT NULL DEFAULT 'infinity' CHECK (valid_to > valid_from),
    stamped     boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX kiosk_place_terminal ON admin.kiosk_place (terminal_id, valid_from);
CREATE UNIQUE INDEX kiosk_place_open ON admin.kiosk_place (terminal_id) WHERE valid_to = 'infinity';
CREATE INDEX kiosk_place_org ON admin.kiosk_place (org_path text_pattern_ops);
CREATE INDEX kiosk_place_news ON admin.kiosk_place (id) WHERE NOT stamped;
COMMENT ON TABLE admin.kiosk_place IS
    'Which kiosk a terminal was, and where it stood, from when to when: a payment belongs to the place of its time, whatever moves later.';
COMMENT ON COLUMN admin.kiosk_place.valid_from IS
    'of the first place of a terminal -infinity: what it did before somebody registered it, it did there';
COMMENT ON COLUMN admin.kiosk_place.stamped IS 'payments since valid_from have been looked at again';

CREATE FUNCTION admin.place_terminal(the_terminal text, the_kiosk bigint, the_org bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM admin.kiosk_place WHERE terminal_id = the_terminal AND valid_to = 'infinity' AND valid_from = now();
    UPDATE admin.kiosk_place SET valid_to = now(), stamped = false WHERE terminal_id = the_terminal AND valid_to = 'infinity';
    IF the_kiosk IS NOT NULL THEN
        INSERT INTO admin.kiosk_place (terminal_id, kiosk_id, org_id, org_path, valid_from)
        SELECT the_terminal, the_kiosk, org.id, org.path,
               CASE WHEN EXISTS (SELECT FROM admin.kiosk_place WHERE terminal_id = the_terminal) THEN now() ELSE '-infinity' END
          FROM admin.org WHERE org.id = the_org;
    END IF;
END $$;
COMMENT ON FUNCTION admin.place_terminal IS 'From now on this terminal is that kiosk at that site; without a kiosk it is nowhere.';

-- As their owner: nobody writes a place by hand.
CREATE FUNCTION admin.keep_place() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = admin, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.terminal_id, NEW.org_id) IS NOT DISTINCT FROM (OLD.terminal_id, OLD.org_id) THEN
            RETURN NULL;
        END IF;
        IF OLD.terminal_id IS DISTINCT FROM NEW.terminal_id AND OLD.terminal_id IS NOT NULL THEN
            PERFORM admin.place_terminal(OLD.terminal_id, NULL, NULL);
        END IF;
    END IF;
    IF NEW.terminal_id IS NOT NULL THEN
        PERFORM admin.place_terminal(NEW.terminal_id, NEW.id, NEW.org_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_place AFTER INSERT OR UPDATE OF terminal_id, org_id ON admin.kiosk
    FOR EACH ROW EXECUTE FUNCTION admin.keep_place();

CREATE FUNCTION admin.keep_path() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = admin, pg_temp AS $$
BEGIN
    PERFORM admin.place_terminal(place.terminal_id, place.kiosk_id, NEW.id)
       FROM admin.kiosk_place AS place WHERE place.org_id = NEW.id AND place.valid_to = 'infinity';
    RETURN NULL;
END $$;
CREATE TRIGGER keep_path AFTER UPDATE OF path ON admin.org
    FOR EACH ROW WHEN (NEW.path <> OLD.path) EXECUTE FUNCTION admin.keep_path();

SELECT admin.place_terminal(terminal_id, id, org_id) FROM admin.kiosk WHERE terminal_id IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------- whose fault it was
-- One classification for gates, alarms and reports. A payment's fault is the first row of the saga's table that led it off
-- the good way (fault_row); what stands behind that row is the card network's code, the marketing system's, or the row itself.
CREATE TABLE admin.fault_row (
    "row"  text PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('card', 'bill', 'row'))
);
COMMENT ON TABLE admin.fault_row IS 'Rows of the saga''s table that lead off the good way, and which code says why.';
INSERT INTO admin.fault_row VALUES
    ('3', 'card'), ('4', 'card'), ('4p', 'card'), ('5', 'row'), ('6', 'row'), ('6r', 'row'), ('7', 'row'), ('6k', 'row'),
    ('4a', 'row'), ('6c', 'row'), ('6v', 'row'), ('6j', 'row'),
    ('9', 'bill'), ('9s', 'bill'), ('9n', 'bill'), ('10e', 'bill'),
    ('10y', 'row'), ('10q', 'row'), ('10x', 'row'), ('10s', 'row'), ('12', 'row'), ('12m', 'row'), ('12k', 'row');

CREATE TABLE admin.response_class (
    source  text NOT NULL CHECK (source IN ('card', 'bill', 'row')),
    code    text NOT NULL,
    class   text NOT NULL CHECK (class IN ('ok', 'customer', 'issuer', 'channel', 'switch', 'terminal', 'grid')),
    text    text NOT NULL,
    text_en text NOT NULL,
    PRIMARY KEY (source, code)
);
COMMENT ON TABLE admin.response_class IS
    'Whose matter a result is: customer (card, PIN, funds), issuer, channel (card network and lines), switch, terminal, grid (marketing system). Code "*": any other.';
INSERT INTO admin.response_class (source, code, class, text, text_en) VALUES
    ('card', '00', 'ok', '批准', 'approved'),
    ('card', '11', 'ok', '重要人物批准', 'approved, VIP'),
    ('card', 'A2', 'ok', '有缺陷的成功', 'approved with a defect'),
    ('card', 'A4', 'ok', '有缺陷的成功', 'approved with a defect'),
    ('card', 'A5', 'ok', '有缺陷的成功', 'approved with a defect'),
    ('card', 'A6', 'ok', '有缺陷的成功', 'approved with a defect'),
    ('card', '04', 'customer', '没收卡', 'pick up card'),
    ('card', '07', 'customer', '特定条件下没收卡', 'pick up card, special condition'),
    ('card', '14', 'customer', '无效卡号', 'invalid card number'),
    ('card', '15', 'customer', '无此发卡方', 'no such issuer'),
    ('card', '33', 'customer', '过期的卡，没收卡', 'expired card, pick up'),
    ('card', '34', 'customer', '有作弊嫌疑，没收卡', 'suspected fraud, pick up'),
    ('card', '35', 'customer', '受卡方与受理方联系，没收卡', 'contact acquirer, pick up'),
    ('card', '36', 'customer', '受限制的卡，没收卡', 'restricted card, pick up'),
    ('card', '37', 'customer', '呼受理方安全保密部门，没收卡', 'call acquirer security, pick up'),
    ('card', '38', 'customer', '密码错误次数过多，没收卡', 'PIN tries exceeded, pick up'),
    ('card', '39', 'customer', '无此信用卡账户', 'no credit account'),
    ('card', '41', 'customer', '挂失卡', 'lost card'),
    ('card', '42', 'customer', '无此账户', 'no universal account'),
    ('card', '43', 'customer', '被窃卡', 'stolen card'),
    ('card', '44', 'customer', '无此投资账户', 'no investment account'),
    ('card', '51', 'customer', '余额不足', 'insufficient funds'),
    ('card', '52', 'customer', '无此支票账户', 'no cheque account'),
    ('card', '53', 'customer', '无此储蓄卡账户', 'no savings account'),
    ('card', '54', 'customer', '卡已过期', 'expired card'),
    ('card', '55', 'customer', '密码错误', 'incorrect PIN'),
    ('card', '56', 'customer', '无此卡记录', 'no card record'),
    ('card', '57', 'customer', '此卡不允许该交易', 'not permitted to cardholder'),
    ('card', '59', 'customer', '有作弊嫌疑', 'suspected fraud'),
    ('card', '61', 'customer', '超出金额限制', 'exceeds amount limit'),
    ('card', '62', 'customer', '受限制的卡', 'restricted card'),
    ('card', '65', 'customer', '超出次数限制', 'exceeds count limit'),
    ('card', '67', 'customer', '捕捉，没收卡', 'hard capture, pick up'),
    ('card', '75', 'customer', '密码错误次数超限', 'PIN tries exceeded'),
    ('card', '01', 'issuer', '联系发卡行', 'refer to issuer'),
    ('card', '02', 'issuer', '联系发卡行，特殊条件', 'refer to issuer, special condition'),
    ('card', '05', 'issuer', '不予承兑', 'do not honour'),
    ('card', '06', 'issuer', '发卡行出错', 'error'),
    ('card', '10', 'issuer', '部分金额批准', 'approved for partial amount'),
    ('card', '19', 'issuer', '重新送入交易', 're-enter transaction'),
    ('card', '20', 'issuer', '无效响应', 'invalid response'),
    ('card', '21', 'issuer', '不作任何处理', 'no action taken'),
    ('card', '23', 'issuer', '不可接受的交易费', 'unacceptable fee'),
    ('card', '40', 'issuer', '发卡行不支持此交易', 'function not supported'),
    ('card', '63', 'issuer', '违反安全保密规定', 'security violation'),
    ('card', '91', 'issuer', '发卡行不能操作', 'issuer cannot operate'),
    ('card', '93', 'issuer', '交易违法，不能完成', 'violation of law'),
    ('card', '*', 'issuer', '发卡行拒绝', 'declined'),
    ('card', '09', 'channel', '正在处理中', 'request in progress'),
    ('card', '22', 'channel', '怀疑操作有误', 'suspected malfunction'),
    ('card', '31', 'channel', '银联不支持的银行', 'bank not supported'),
    ('card', '68', 'channel', '收到的回答太迟', 'response received too late'),
    ('card', '90', 'channel', '正在日终处理', 'cut-off in progress'),
    ('card', '92', 'channel', '机构或网络无法到达', 'institution or network cannot be reached'),
    ('card', '95', 'channel', '调节控制错', 'reconciliation error'),
    ('card', '96', 'channel', '银联系统异常', 'system malfunction'),
    ('card', '98', 'channel', '银联收不到发卡方应答', 'no response from issuer'),
    ('card', 'A7', 'channel', '安全处理失败', 'security processing failed'),
    ('card', '03', 'switch', '无效商户', 'invalid merchant'),
    ('card', '12', 'switch', '无效交易', 'invalid transaction'),
    ('card', '13', 'switch', '无效金额', 'invalid amount'),
    ('card', '25', 'switch', '找不到原始交易', 'record not found'),
    ('card', '30', 'switch', '报文格式错误', 'format error'),
    ('card', '60', 'switch', '受卡方与受理方联系', 'contact acquirer'),
    ('card', '64', 'switch', '原始金额不正确', 'original amount incorrect'),
    ('card', '66', 'switch', '呼受理方安全保密部门', 'call acquirer security'),
    ('card', '79', 'switch', '脱机交易对账不平', 'offline totals do not match'),
    ('card', '94', 'switch', '重复交易', 'duplicate transaction'),
    ('card', 'A0', 'switch', 'MAC 鉴别失败', 'MAC error'),
    ('card', '58', 'terminal', '终端不允许该交易', 'not permitted to terminal'),
    ('card', '77', 'terminal', '终端需重新签到', 'sign on again'),
    ('card', '97', 'terminal', '终端未在中心登记', 'terminal not registered'),
    ('card', '99', 'terminal', '密码格式错（密码键盘密钥）', 'PIN format error'),
    ('bill', '03', 'customer', '户号不存在', 'no such account'),
    ('bill', '06', 'customer', '当前无欠费（已由其他渠道缴清）', 'no arrears: paid through another channel'),
    ('bill', '09', 'customer', '须到营业厅办理', 'must go to the hall'),
    ('bill', '27', 'customer', '须一次缴清全部欠费', 'all arrears must be paid'),
    ('bill', '73', 'customer', '账单金额已变化', 'the amount has changed'),
    ('bill', '100', 'customer', '户号已锁定', 'account locked'),
    ('bill', '15', 'grid', '此流水已被撤销', 'this serial was cancelled'),
    ('bill', '18', 'grid', '批扣进行中', 'a batch debit is running'),
    ('bill', '29', 'grid', '营销系统销账失败', 'posting failed'),
    ('bill', '84', 'grid', '营销系统日终处理', 'day end of the marketing system'),
    ('bill', '*', 'grid', '营销系统拒绝销账', 'posting refused'),
    ('row', '5', 'switch', '银联应答 MAC 校验失败', 'the answer''s MAC was wrong'),
    ('row', '6', 'channel', '银联超时无应答', 'no answer from the card network'),
    ('row', '6r', 'switch', '支付前置中断，未等到银联应答', 'the switch was interrupted before the answer'),
    ('row', '7', 'channel', '银联链路中断，请求未发出', 'the card network''s link was down: nothing was sent'),
    ('row', '6k', 'terminal', '终端冲正', 'reversed by the kiosk'),
    ('row', '4a', 'issuer', '卡片芯片拒绝', 'refused by the card''s chip'),
    ('row', '6c', 'terminal', '终端未回报芯片结果', 'the kiosk did not tell the chip''s word'),
    ('row', '6v', 'switch', '支付前置中断，芯片结果未知', 'the switch was interrupted, the chip''s word is unknown'),
    ('row', '6j', 'terminal', '终端冲正', 'reversed by the kiosk'),
    ('row', '10y', 'grid', '营销系统无应答', 'no answer from the marketing system'),
    ('row', '10q', 'grid', '营销系统无应答', 'no answer from the marketing system'),
    ('row', '10x', 'grid', '营销系统查无此笔', 'the marketing system does not know the posting'),
    ('row', '10s', 'grid', '营销系统查无此笔', 'the marketing system does not know the posting'),
    ('row', '12', 'grid', '营销系统超时未销账', 'the marketing system did not post in time'),
    ('row', '12m', 'grid', '营销系统日终前未销账', 'not posted before the marketing system closed its day'),
    ('row', '12k', 'terminal', '终端冲正', 'reversed by the kiosk'),
    ('row', '*', 'switch', '其他', 'other');

-- ---------------------------------------------------------------------------------------------------- the facts
CREATE TABLE admin.payment_fact (
    payment_id     bigint PRIMARY KEY,
    opened_on      integer NOT NULL,
    ver            integer NOT NULL,
    state          text NOT NULL,
    final          boolean NOT NULL,
    opened_at      timestamptz NOT NULL,
    changed_at     timestamptz NOT NULL,
    settled_on     date NOT NULL,
    local_on       date NOT NULL,
    amount         bigint NOT NULL CHECK (amount > 0),
    kind           text NOT NULL CHECK (kind IN ('payment', 'prepayment')),
    bills          smallint NOT NULL,
    terminal_id    text NOT NULL,
    kiosk_id       bigint,
    org_id         bigint,
    org_path       text NOT NULL DEFAULT '/',
    account_hash   bytea NOT NULL CHECK (length(account_hash) = 16),
    account_masked text NOT NULL,
    rrn            text NOT NULL DEFAULT '',
    batch          text NOT NULL,
    stan           text NOT NULL,
    kiosk_serial   text NOT NULL,
    card_first6    text NOT NULL,
    card_last4     text NOT NULL,
    response_code  text NOT NULL DEFAULT '',
    bill_code      text NOT NULL DEFAULT '',
    fault_source   text,
    fault_code     text,
    class          text,
    total_ms       integer,
    card_ms        integer,
    bill_ms        integer,
    card_from_ms   integer NOT NULL,
    bill_from_ms   integer,
    charged        boolean NOT NULL,
    reversed       boolean NOT NULL,
    case_number    text NOT NULL DEFAULT '',
    recon          text NOT NULL DEFAULT 'open'
) WITH (fillfactor = 85);
CREATE INDEX payment_fact_account ON admin.payment_fact (account_hash, payment_id);
CREATE INDEX payment_fact_terminal ON admin.payment_fact (terminal_id, payment_id);
CREATE INDEX payment_fact_kiosk ON admin.payment_fact (kiosk_id, payment_id);
CREATE INDEX payment_fact_org ON admin.payment_fact (org_path, payment_id);
CREATE INDEX payment_fact_rrn ON admin.payment_fact (rrn, payment_id) WHERE rrn <> '';
CREATE INDEX payment_fact_card ON admin.payment_fact (card_last4, payment_id);
CREATE INDEX payment_fact_serial ON admin.payment_fact (kiosk_serial, payment_id);
CREATE INDEX payment_fact_stan ON admin.payment_fact (stan, payment_id);
CREATE INDEX payment_fact_amount ON admin.payment_fact (amount, payment_id);
-- Nearly all are completed: those that are not are what people look for.
CREATE INDEX payment_fact_state ON admin.payment_fact (state, payment_id) WHERE state <> 'COMPLETED';
CREATE INDEX payment_fact_fault ON admin.payment_fact (class, payment_id) WHERE class <> 'ok';
CREATE INDEX payment_fact_settled ON admin.payment_fact (settled_on, payment_id);
CREATE INDEX payment_fact_local ON admin.payment_fact (local_on, payment_id);
CREATE INDEX payment_fact_homeless ON admin.payment_fact (terminal_id) WHERE kiosk_id IS NULL;
COMMENT ON TABLE admin.payment_fact IS
    'Grain: one payment. Its number begins with the milliseconds at which it began, so the order of payment_id is that of time.';
COMMENT ON COLUMN admin.payment_fact.opened_on IS 'YYYYMMDD, with payment_id its key at the switch';
COMMENT ON COLUMN admin.payment_fact.ver IS 'of the latest event that is in this row';
COMMENT ON COLUMN admin.payment_fact.opened_at IS 'when it began, as its number says, to the millisecond';
COMMENT ON COLUMN admin.payment_fact.settled_on IS 'the card network''s day: from the cut-over on it is already the next one. The switch has set it';
COMMENT ON COLUMN admin.payment_fact.local_on IS 'calendar day of opened_at in China';
COMMENT ON COLUMN admin.payment_fact.amount IS 'fen';
COMMENT ON COLUMN admin.payment_fact.bills IS 'months that are paid; 1 for a prepayment';
COMMENT ON COLUMN admin.payment_fact.org_path IS 'of the site where the terminal stood then; "/" when nobody has registered it';
COMMENT ON COLUMN admin.payment_fact.account_hash IS 'the first half of HMAC-SHA-256 of the account under the service''s key: finds, and does not tell';
COMMENT ON COLUMN admin.payment_fact.response_code IS 'the card network''s latest word about the purchase, field 39';
COMMENT ON COLUMN admin.payment_fact.fault_source IS 'with fault_code: what led it off the good way first (response_class); NULL: nothing did';
COMMENT ON COLUMN admin.payment_fact.class IS 'ok: completed; NULL: under way, and nothing is wrong';
COMMENT ON COLUMN admin.payment_fact.total_ms IS 'from its beginning to its end, which is what the customer waits; NULL: no end yet';
COMMENT ON COLUMN admin.payment_fact.card_ms IS 'from the purchase''s record to the decision about it, silence included';
COMMENT ON COLUMN admin.payment_fact.bill_ms IS 'from the first posting''s record to the decision about all';
COMMENT ON COLUMN admin.payment_fact.charged IS 'an approval was seen; a reversal may have followed';
COMMENT ON COLUMN admin.payment_fact.reversed IS 'a reversal was due; whether it went through, the state tells';
COMMENT ON COLUMN admin.payment_fact.recon IS 'what the settlement files say; open: not compared yet';

CREATE FUNCTION admin.first_payment(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ceil(extract(epoch FROM at) * 1000)::bigint << 22
$$;
COMMENT ON FUNCTION admin.first_payment IS 'The lowest number that a payment can have that began at this instant or later.';

CREATE TABLE admin.feed_position (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    cursor  text NOT NULL DEFAULT '',
    events  bigint NOT NULL DEFAULT 0,
    read_at timestamptz NOT NULL DEFAULT '-infinity',
    last_at timestamptz NOT NULL DEFAULT '-infinity',
    more    boolean NOT NULL DEFAULT false
);
INSERT INTO admin.feed_position DEFAULT VALUES;
COMMENT ON TABLE admin.feed_position IS 'How far the switch''s events are in payment_fact: moved in the transaction that writes the rows.';
COMMENT ON COLUMN admin.feed_position.last_at IS 'time of the latest event that was read';
COMMENT ON COLUMN admin.feed_position.more IS 'the last batch was full: there is more to read';

-- Objects one over the other, later wins.
CREATE AGGREGATE admin.jsonb_merge (jsonb) (SFUNC = pg_catalog.jsonb_concat, STYPE = jsonb, PARALLEL = SAFE);

GRANT SELECT ON admin.kiosk_place, admin.fault_row, admin.response_class TO gridswitch_admin;
GRANT UPDATE (stamped) ON admin.kiosk_place TO gridswitch_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON admin.payment_fact TO gridswitch_admin;
GRANT SELECT, UPDATE ON admin.feed_position TO gridswitch_admin;
